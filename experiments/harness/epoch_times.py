"""Times of epochs and of passes over the images, in tables and plots beside the labs'."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median

from experiments.harness.published import published
from experiments.harness.results import Results, Series
from jaxresnet.report.plots import Curve, plot_curves, plot_stacked_bars
from jaxresnet.report.tables import Column, Table, make_table

# What the labs' tables of times have, with the stall beside.
TIME_COLUMNS = {
    "data\nloading": "input_wait",
    "input\nstall": "input_stall",
    "com-\nputation": "compute",
    "total": "seconds",
}
_PARTS = {"computation": "compute", "input stall": "input_stall"}  # of the total


def training_times(series: Sequence[Series]) -> dict[str, list[float]]:
    """By column, the seconds of each training over its epochs, and of its first epoch."""
    times = {header: [s.total(key) for s in series] for header, key in TIME_COLUMNS.items()}
    return {**times, "first epoch": [s.values("seconds")[0] for s in series]}


def plot_times(
    path: Path, title: str, x_label: str, bars: Mapping[str, Mapping[str, float]]
) -> None:
    """What the total is made of. bars: seconds by figure, by the bar's name."""
    parts = {part: [times[key] for times in bars.values()] for part, key in _PARTS.items()}
    plot_stacked_bars(path, title, list(bars), x_label, "seconds", parts)


def compare_workers(
    results: Results,
    title: str,
    work: tuple[str, str],
    times: Mapping[int, Mapping[str, Sequence[float]]],
    plotted: str,
    lab: str,
    digits: int = 2,
) -> tuple[Table, str]:
    """A table beside a lab's, and the name of a plot.

    Args:
      work: what took the time, here and in the lab.
      times: seconds, by the number of workers and by column.
      plotted: the column that the lab's times stand beside.
    """
    figures = published()["c3"][lab]
    (key,) = (key for key in figures if key.endswith("_s"))
    lab_times = dict(zip(figures["workers"], figures[key], strict=True))
    columns = [Column[int]("workers", str)]
    for header in next(iter(times.values())):
        columns.append(Column(header, lambda n, h=header: times.get(n, {}).get(h), digits))
    columns.append(Column(f"{lab}\ndata loading", lab_times.get, digits))
    table = make_table(
        f"{title}: this run ({results.dataset.title}) beside {lab}",
        columns,
        [workers for workers in sorted({*times, *lab_times}) if workers <= max(times)],
        f"Seconds for {work[0]} ({lab}: {work[1]}), medians with the least and the greatest.",
    )
    values = [row[plotted] for row in times.values()]
    ranges = [(min(each), max(each)) for each in values]
    medians = [median(each) for each in values]
    plot = f"{title.lower().removeprefix('the ').replace(' ', '_')}.png"
    plot_curves(
        results.directory / plot,
        f"{results.dataset.title}: data loading, {title.lower()}",
        "workers",
        "seconds",
        [
            Curve("this run, median and range", medians, x=list(times), ranges=ranges),
            Curve(lab, list(lab_times.values()), 1, True, x=list(lab_times)),
        ],
        f"this run: {work[0]}; {lab}: {work[1]}",
        logarithmic=True,
    )
    return table, plot
