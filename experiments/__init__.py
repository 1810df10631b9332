"""One module per experiment; `python -m experiments` lists them."""
