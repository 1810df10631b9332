"""The figures of the four source documents, from published.toml beside this file."""

import tomllib
from functools import cache
from pathlib import Path
from typing import Any

# The source of images that all the labs trained on, and how many of them.
SOURCE, TRAIN_IMAGES = "cifar10", 50_000
LABS = ("lab-a", "lab-b", "lab-c")


@cache
def published() -> dict[str, Any]:
    """All published figures, keyed by experiment and then by lab; see the file's comments.

    Top-1 is a fraction throughout, where some of the documents give per cents.
    """
    text = Path(__file__).with_name("published.toml").read_text(encoding="utf-8")
    return _with_fractions(tomllib.loads(text))


def _with_fractions(value: Any, name: str = "") -> Any:
    if isinstance(value, dict):
        return {key: _with_fractions(part, key) for key, part in value.items()}
    if name == "top1" and isinstance(value, list) and max(value) > 1:
        return [part / 100 for part in value]
    return value
