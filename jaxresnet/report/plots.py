"""Plots of a run beside the published curves, as PNG files."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import matplotlib
import numpy as np

matplotlib.use("Agg")

from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")  # Okabe and Ito
_DOTS_PER_INCH = 110


@dataclass(frozen=True)
class Curve:
    """values[i] belongs to epoch i + 1, or to x[i] if given. Dashed curves are published ones.

    deviations: half the height of a band around each value. ranges: the ends of a bar through it.
    """

    label: str
    values: Sequence[float]
    colour: int = 0
    dashed: bool = False
    x: Sequence[float] | None = None
    deviations: Sequence[float] | None = None
    ranges: Sequence[tuple[float, float]] | None = None


def plot_curves(
    path: Path,
    title: str,
    x_label: str,
    y_label: str,
    curves: Sequence[Curve],
    note: str = "",
    *,
    logarithmic: bool = False,
) -> None:
    """Draws curves into one pair of axes; those that share a colour number share a colour.

    logarithmic: the vertical axis.
    """
    figure, axes = plt.subplots(figsize=(7.5, 4.5), layout="constrained")
    for curve in curves:
        _draw(axes, curve)
    axes.set_title(title)
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    if logarithmic:
        axes.set_yscale("log")
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside right center", frameon=False, fontsize="small")
    if note:
        axes.text(0, -0.18, note, transform=axes.transAxes, fontsize="x-small", alpha=0.7)
    figure.savefig(path, dpi=_DOTS_PER_INCH)
    plt.close(figure)


def plot_bars(
    path: Path, title: str, x_label: str, groups: Mapping[str, Mapping[str, float]]
) -> None:
    """Horizontal bars on a logarithmic axis, each with its value; a colour for each group."""
    count = sum(len(group) for group in groups.values())
    figure, axes = plt.subplots(figsize=(7.5, 1 + 0.45 * count), layout="constrained")
    for colour, (label, group) in enumerate(groups.items()):
        bars = axes.barh(
            list(group), list(group.values()), 0.6, label=label, color=_COLOURS[colour]
        )
        axes.bar_label(bars, fmt="{:,.0f}", padding=3, fontsize="small")
    axes.set_xscale("log")
    axes.margins(x=0.15)
    axes.invert_yaxis()
    axes.set_title(title)
    axes.set_xlabel(x_label)
    _save_bars(figure, axes, path, "x")


def plot_stacked_bars(
    path: Path,
    title: str,
    bars: Sequence[str],
    x_label: str,
    y_label: str,
    parts: Mapping[str, Sequence[float]],
) -> None:
    """One bar for each name in `bars`, its parts upon one another from the first to the last."""
    figure, axes = plt.subplots(figsize=(7.5, 4.5), layout="constrained")
    bottom = [0.0] * len(bars)
    for colour, (label, values) in enumerate(parts.items()):
        axes.bar(bars, values, 0.6, bottom, label=label, color=_COLOURS[colour])
        bottom = [below + value for below, value in zip(bottom, values, strict=True)]
    axes.set_title(title)
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    _save_bars(figure, axes, path, "y")


def _save_bars(figure: Figure, axes: Axes, path: Path, along: Literal["x", "y"]) -> None:
    """along: the axis of the values, which gets a grid behind the bars."""
    axes.grid(alpha=0.25, axis=along)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside right center", frameon=False, fontsize="small")
    figure.savefig(path, dpi=_DOTS_PER_INCH)
    plt.close(figure)


def plot_differences(
    path: Path,
    title: str,
    x_label: str,
    y_label: str,
    pairs: Mapping[str, tuple[Sequence[float], Sequence[float], Sequence[float]]],
    sides: tuple[str, str],
    bound: float,
) -> None:
    """Pairs of curves that should be one, and below them their relative differences.

    pairs: by label, the values of either side and the differences; the second side is drawn as
      dots upon the first.
    """
    figure, (curves, differences) = plt.subplots(
        2, 1, figsize=(7.5, 6.5), sharex=True, layout="constrained", height_ratios=(3, 2)
    )
    for colour, (label, (found, expected, relative)) in enumerate(pairs.items()):
        steps = range(1, len(found) + 1)
        curves.plot(steps, found, label=f"{label}, {sides[0]}", color=_COLOURS[colour])
        curves.plot(
            steps, expected, ".", label=f"{label}, {sides[1]}", color=_COLOURS[colour], alpha=0.6
        )
        differences.semilogy(steps, relative, color=_COLOURS[colour])
    differences.axhline(bound, color="black", linestyle="--", linewidth=1)
    differences.text(1, bound, f"bound {bound:g}", va="bottom", fontsize="small")
    differences.set_ylabel("relative difference")
    differences.set_xlabel(x_label)
    curves.set_title(title)
    curves.set_ylabel(y_label)
    for axes in (curves, differences):
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside right center", frameon=False, fontsize="small")
    figure.savefig(path, dpi=_DOTS_PER_INCH)
    plt.close(figure)


def _draw(axes: Axes, curve: Curve) -> None:
    x = curve.x if curve.x is not None else range(1, len(curve.values) + 1)
    few = len(curve.values) <= 20
    colour = _COLOURS[curve.colour % len(_COLOURS)]
    if curve.deviations is not None:
        values, deviations = np.array(curve.values), np.array(curve.deviations)
        axes.fill_between(
            list(x), values - deviations, values + deviations, color=colour, alpha=0.2, linewidth=0
        )
    if curve.ranges is not None:
        lengths = [
            (value - low, high - value)
            for value, (low, high) in zip(curve.values, curve.ranges, strict=True)
        ]
        axes.errorbar(
            list(x), list(curve.values), np.transpose(lengths), fmt="none", ecolor=colour, capsize=3
        )
    axes.plot(
        list(x),
        list(curve.values),
        label=curve.label,
        color=colour,
        linestyle="--" if curve.dashed else "-",
        marker=("x" if curve.dashed else "o") if few else None,
        markersize=4,
        linewidth=1.2 if curve.dashed else 1.6,
        alpha=0.7 if curve.dashed else 1,
    )
