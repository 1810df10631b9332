"""Medians and ratios of what contestants did in the same rounds."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median


@dataclass(frozen=True)
class Spread:
    """Of one value for each round."""

    median: float
    low: float
    high: float

    def cell(self, digits: int) -> str:
        """As a table shows it: median (least-greatest)."""
        middle, low, high = (f"{v:,.{digits}f}" for v in (self.median, self.low, self.high))
        return f"{middle} ({low}-{high})"


def spread(values: Sequence[float]) -> Spread:
    """The median, the least and the greatest."""
    return Spread(median(values), min(values), max(values))


def best_by_round(rates: Sequence[Sequence[float]]) -> list[float]:
    """rates: of each contestant, one for each round. The highest of each round."""
    return [max(values) for values in zip(*rates, strict=True)]


def ratio(rates: Sequence[float], reference: Sequence[float]) -> Spread:
    """rates[i] / reference[i]: each round against the same round."""
    return spread([rate / base for rate, base in zip(rates, reference, strict=True)])
