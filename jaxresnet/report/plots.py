"""Plots as PNG files that can be read on a phone: large letters, the legend below."""

import math
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, Literal

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullFormatter

_WIDTH, _HEIGHT, _ROW = 7.5, 4.4, 0.75  # inches; _ROW: of a horizontal bar and its name
_LINE, _LEGEND_LINE = 66, 34  # characters in the figure's width, in a column of the legend
_LETTER = 0.013  # width, of the axes'
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")  # Okabe and Ito
_TURNS = {"marker": ("o", "s", "^", "D"), "hatch": ("", "//", "..", "xx")}  # by turn
_RC: dict[Any, Any] = {
    "axes.axisbelow": True,
    "axes.formatter.min_exponent": 3,
    "axes.grid": True,
    "axes.labelsize": "large",
    "axes.spines.right": False,
    "axes.spines.top": False,
    "figure.dpi": 120,
    "font.size": 12,
    "grid.alpha": 0.25,
    "hatch.color": "white",
    "legend.frameon": False,
}


@dataclass(frozen=True)
class Curve:
    """A series of values and how it is drawn.

    Attributes:
      values: those of epochs 1, 2, ..., or those at `x`.
      colour: a number; curves that share it share colour and marker.
      dashed: for published values.
      deviations: half the height of a band around each value.
      ranges: the ends of an error bar through each value.
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
    logarithmic_x: bool = False,
    marks: Sequence[tuple[float, str]] = (),
) -> None:
    """Curves in one pair of axes.

    Args:
      note: explains the legend, and stands above it.
      logarithmic: the vertical axis.
      marks: x and label of thin vertical lines; one whose label has no room is left out.
    """
    with _plot(path, title, _HEIGHT, note=note) as (axes,):
        for curve in curves:
            _draw(axes, curve)
        axes.set(xlabel=x_label, ylabel=y_label, yscale="log" if logarithmic else "linear")
        if logarithmic_x:
            axes.set_xscale("log")
            axes.xaxis.set_major_formatter("{x:,.0f}")
            axes.xaxis.set_minor_formatter(NullFormatter())
        axes.autoscale_view()  # else transLimits are those of no curves
        free = -math.inf  # from where on there is room, as a fraction of the axes' width
        for x, label in marks:
            middle, _ = (axes.transScale + axes.transLimits).transform((x, 1))
            half = _LETTER * (len(label) + 1) / 2
            if middle - half >= free:
                axes.axvline(x, color="black", linewidth=0.8, alpha=0.4, zorder=1)
                axes.text(middle, 1.02, label, transform=axes.transAxes, ha="center")
                free = middle + half


def plot_bars(
    path: Path, title: str, x_label: str, groups: Mapping[str, Mapping[str, float]]
) -> None:
    """Horizontal bars on a logarithmic axis. groups: by label in the legend, values by name."""
    bars = [(name, value, value) for group in groups.values() for name, value in group.items()]
    with _plot(path, title, 1 + _ROW * len(bars), grid="x") as (axes,):
        top = 0
        for number, (label, group) in enumerate(groups.items()):
            rows = range(top, top + len(group))
            axes.barh(rows, list(group.values()), 0.45, label=label, **_style(number, "hatch"))
            top += len(group)
        axes.set_xscale("log")
        _name_bars(axes, x_label, bars)


def plot_rates(path: Path, title: str, rates: Mapping[str, Sequence[float]]) -> None:
    """A bar up to each contestant's median, a point for each round. rates: images/s, by name."""
    bars = [(name, median(values), max(values)) for name, values in rates.items()]
    points = [(rate, row) for row, values in enumerate(rates.values()) for rate in values]
    with _plot(path, title, 1 + _ROW * len(bars), grid="x") as (axes,):
        medians = [value for _, value, _ in bars]
        axes.barh(range(len(bars)), medians, 0.45, label="median", **_style(4, "hatch"))
        axes.plot(*np.transpose(points), "o", color=_COLOURS[0], label="each round")
        _name_bars(axes, "images/s", bars)
        axes.set_xlim(left=0)


def plot_stacked_bars(
    path: Path,
    title: str,
    bars: Sequence[str],
    x_label: str,
    y_label: str,
    parts: Mapping[str, Sequence[float]],
) -> None:
    """One bar for each name in `bars`, its parts upon one another from the first to the last."""
    with _plot(path, title, _HEIGHT, grid="y") as (axes,):
        columns, bottom = np.arange(len(bars)), np.zeros(len(bars))
        for number, (label, values) in enumerate(parts.items()):
            axes.bar(columns, values, 0.6, bottom, label=label, **_style(number, "hatch"))
            bottom += values
        step = -(-len(bars) // 12)  # more names would run into one another
        axes.set(xticks=columns[::step], xticklabels=bars[::step], xlabel=x_label, ylabel=y_label)


def plot_differences(
    path: Path,
    title: str,
    x_label: str,
    y_label: str,
    pairs: Mapping[str, tuple[Sequence[float], Sequence[float], Sequence[float]]],
    sides: tuple[str, str],
    bound: float,
) -> None:
    """Pairs of curves that should be the same, and below them their relative differences.

    Args:
      pairs: by label, the values of either side and the differences.
      sides: names of the sides; the second is drawn as dots upon the first.
      bound: of the differences; a dashed line.
    """
    with _plot(path, title, 6.5, nrows=2, sharex=True, height_ratios=(3, 2)) as (above, below):
        for number, (label, (first, second, differences)) in enumerate(pairs.items()):
            _draw(above, Curve(f"{label}, {sides[0]}", first, number))
            dots = {"ls": "", "ms": 5, "markeredgecolor": "white"} | _style(number, "marker")
            above.plot(range(1, len(second) + 1), second, label=f"{label}, {sides[1]}", **dots)
            _draw(below, Curve("_nolegend_", differences, number))
        below.axhline(bound, color="black", linestyle="--", linewidth=1)
        below.text(1, bound, f"bound {bound:g}", va="bottom")
        below.set(xlabel=x_label, ylabel="relative\ndifference", yscale="log")
        above.set_ylabel(y_label)


@contextmanager
def _plot(
    path: Path,
    title: str,
    height: float,
    *,
    note: str = "",
    grid: Literal["both", "x", "y"] = "both",
    **subplots: Any,
) -> Iterator[Sequence[Axes]]:
    """Axes to draw into; afterwards they get a legend of their labels below and are saved.

    height: in inches, without the legend. subplots: arguments of `Figure.subplots`.
    """
    with matplotlib.rc_context({**_RC, "axes.grid.axis": grid}):
        figure = Figure((_WIDTH, height), layout="constrained")
        figure.suptitle(textwrap.fill(title, _LINE))
        figure.subplots(**subplots)
        yield figure.axes
        handles = [each for axes in figure.axes for each in axes.get_legend_handles_labels()[0]]
        legend = figure.legend(
            handles=handles[::2] + handles[1::2],  # row by row in two columns
            title=textwrap.fill(note, _LINE) or None,
            loc="outside lower center",
            ncols=2,
        )
        for text in legend.get_texts():
            text.set_text(textwrap.fill(text.get_text(), _LEGEND_LINE))
        figure.draw_without_rendering()
        figure.set_figheight(height + legend.get_window_extent().height / figure.dpi)
        figure.savefig(path)


def _draw(axes: Axes, curve: Curve) -> None:
    x = range(1, len(curve.values) + 1) if curve.x is None else curve.x
    values = np.array(curve.values)
    dense = len(values) > 20  # a thinner line, without a marker at each point
    style = _style(curve.colour, "marker")
    if dense and curve.colour < len(_COLOURS):
        style["marker"] = ""
    if curve.deviations is not None:
        ends = values - curve.deviations, values + curve.deviations
        axes.fill_between(x, *ends, color=style["color"], alpha=0.2, linewidth=2)
    if curve.ranges is not None:
        lengths = np.abs(np.transpose(curve.ranges) - values)
        axes.errorbar(x, values, lengths, fmt="none", ecolor=style["color"], capsize=4)
    axes.plot(
        x,
        values,
        "--" if curve.dashed else "-",
        label=curve.label,
        linewidth=1.5 if dense else 2,
        markerfacecolor="white" if curve.dashed else style["color"],
        markevery=len(values) // 10 if dense else 1,
        **style,
    )
    axes.xaxis.set_major_locator(MaxNLocator(7, integer=True, min_n_ticks=1))
    axes.xaxis.set_major_formatter("{x:,.0f}")


def _name_bars(axes: Axes, x_label: str, bars: Sequence[tuple[str, float, float]]) -> None:
    """Writes over horizontal bars. bars: name, value, and what it is written to the right of."""
    for row, (name, value, end) in enumerate(bars):
        axes.text(0.01, row - 0.28, name, transform=axes.get_yaxis_transform())
        text = f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
        axes.annotate(text, (end, row), (7, -5), textcoords="offset points")
    axes.margins(x=0.15)
    axes.set(xlabel=x_label, yticks=[], ylim=(len(bars) - 0.6, -0.8))


def _style(number: int, kind: Literal["marker", "hatch"]) -> dict[str, Any]:
    """Arguments that tell a curve ("marker") or bar ("hatch") from those with other numbers."""
    turn, colour = divmod(number, len(_COLOURS))
    return {"color": _COLOURS[colour], kind: _TURNS[kind][turn % len(_TURNS[kind])]}
