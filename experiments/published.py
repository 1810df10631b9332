"""The figures of the four source documents, from published.toml beside this file."""

import tomllib
from functools import cache
from importlib import resources
from typing import Any


@cache
def published() -> dict[str, Any]:
    """All published figures, keyed by experiment and then by lab; see the file's comments."""
    return tomllib.loads(resources.files("experiments").joinpath("published.toml").read_text())
