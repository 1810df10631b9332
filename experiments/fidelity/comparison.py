"""What was compared with PyTorch, the largest difference found, and the bound."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Comparison:
    """One row of the proof. It holds if `largest` is at most `bound`."""

    what: str
    largest: float
    bound: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "largest", float(self.largest))  # NumPy's are no JSON

    @property
    def holds(self) -> bool:
        return bool(self.largest <= self.bound)  # False for NaN too


def worst(differences: Iterable[float]) -> float:
    """The largest; NaN if one of them is, which Python's max may pass over."""
    return float(np.max(list(differences)))


def relative_difference(found: Any, expected: Any) -> float:
    """The largest difference between two tensors over the largest magnitude in the second."""
    found, expected = np.asarray(found, np.float64), np.asarray(expected, np.float64)
    if found.shape != expected.shape:
        raise ValueError(f"shapes differ: {found.shape} and {expected.shape}")
    return float(np.abs(found - expected).max() / np.abs(expected).max())
