"""Benchmarks against PyTorch: contestants in processes of their own that take turns."""
