"""What a part of the proof is: cases that are measured, and comparisons with bounds."""

import operator
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from experiments.checks.fidelity.options import CompareOptions
from jaxresnet.data.dataset import Dataset
from jaxresnet.report.tables import Table

_RELATIONS: dict[str, Callable[[float, float], bool]] = {"≤": operator.le, "≥": operator.ge}
_LEAST_P = 1e-5  # right draws fall below it with one seed in 100,000


class Comparison(NamedTuple):
    """A row of the proof: it holds if value and bound are in the relation, "≤" or "≥"."""

    what: str
    value: float
    bound: float
    relation: str = "≤"

    @property
    def holds(self) -> bool:
        """False for NaN."""
        return _RELATIONS[self.relation](self.value, self.bound)


def compare_p(what: str, *tests: Any, least: float = _LEAST_P) -> Comparison:
    """The smallest p-value of results of scipy.stats, which must not be too small."""
    return Comparison(f"{what}: p", float(min(test.pvalue for test in tests)), least, "≥")


def worst(differences: Iterable[float]) -> float:
    """The largest; NaN if one of them is, which Python's max may pass over."""
    return float(np.max(list(differences)))


# By case, what it measured, as JSON knows it: a list of comparisons unless the part says else.
Measured = Mapping[str, Any]
Case = Callable[[], Any]


def _compare(measured: Measured) -> list[Comparison]:
    return [Comparison(*values) for comparisons in measured.values() for values in comparisons]


@dataclass(frozen=True)
class Part:
    """A part of the proof: the PART of a module that options.PARTS names.

    Attributes:
      cases: (size, images) -> what measures each case, by name; each is kept when it is finished.
      compare: the comparisons that follow from what was measured.
      note: below the table of comparisons.
      illustrate: (the run's directory, the images in words, what was measured) -> more tables, and
        the names of plots in the directory.
    """

    cases: Callable[[CompareOptions, Dataset], Mapping[str, Case]]
    compare: Callable[[Measured], list[Comparison]] = _compare
    note: str = ""
    illustrate: Callable[[Path, str, Measured], tuple[list[Table], list[str]]] = lambda *_: ([], [])
