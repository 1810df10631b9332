"""Bars of rates, with what each round found."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median

import matplotlib

matplotlib.use("Agg")

from matplotlib import pyplot as plt

_BAR, _POINT = "#56B4E9", "#0072B2"  # Okabe and Ito
_DOTS_PER_INCH = 110


def plot_rates(path: Path, title: str, rates: Mapping[str, Sequence[float]]) -> None:
    """A bar up to each contestant's median, a point for each round. rates: images/s, by name."""
    figure, axes = plt.subplots(figsize=(7.5, 2 + 0.5 * len(rates)), layout="constrained")
    names = list(rates)
    medians = [median(values) for values in rates.values()]
    axes.barh(names, medians, 0.6, color=_BAR, label="median")
    for row, values in enumerate(rates.values()):
        label = "each round" if row == 0 else None
        axes.plot(values, [row] * len(values), "o", color=_POINT, markersize=3, label=label)
        words = f"{medians[row]:,.{0 if medians[row] >= 1000 else 1}f}"
        place = (max(values), row)
        axes.annotate(words, place, (6, 0), textcoords="offset points", va="center")
    axes.margins(x=0.12)
    axes.set_xlim(left=0)
    axes.invert_yaxis()
    axes.set_title(title)
    axes.set_xlabel("images/s")
    axes.grid(alpha=0.25, axis="x")
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside lower right", ncols=2, frameon=False, fontsize="small")
    figure.savefig(path, dpi=_DOTS_PER_INCH)
    plt.close(figure)
