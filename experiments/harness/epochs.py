"""Tables by epoch and curves over the images seen, beside what the labs published."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from typing import Any, Literal

import numpy as np

from experiments.harness.published import TRAIN_IMAGES
from experiments.harness.results import Results, Series
from jaxresnet.options import plural
from jaxresnet.report.plots import Curve, plot_curves
from jaxresnet.report.tables import Column, Table, make_table, mean_and_deviation
from jaxresnet.train.figures import BY_NAME, Record, figures_for, running_top1

_SQUEEZED = 4  # times as many images of the labs make the axis logarithmic


@dataclass(frozen=True)
class Group:
    """Trainings that differ in their seed alone.

    Attributes:
      title: of the group, for people.
      labs: by lab, then by a figure's published name, what it gave for each epoch.
    """

    title: str
    series: Sequence[Series]
    labs: Mapping[str, Mapping[str, Any]]

    def values(self, figure: str, epoch: int) -> list[float]:
        """Of an epoch, for each seed."""
        return [series.values(figure)[epoch] for series in self.series]

    def published(self, lab: str, figure: str, epoch: int) -> list[float]:
        """Of an epoch, a lab's value; none after its last epoch."""
        return self.labs.get(lab, {}).get(figure, [])[epoch : epoch + 1]


Row = tuple[Group, int]  # and its epoch


def epoch_table(results: Results, groups: Sequence[Group]) -> Table:
    """A row for each epoch of each group, a column for each figure and each lab that gave it."""
    columns = [
        Column[Row]("training, epoch", lambda row: f"{row[0].title}, {row[1] + 1}")
        if len(groups) > 1
        else Column[Row]("epoch", lambda row: str(row[1] + 1))
    ]
    figures = figures_for(len(results.dataset.class_names))
    for figure in (figure for figure in figures if figure.header and not figure.detail):
        key, shown = figure.published, (figure.digits, figure.scale)
        columns.append(
            Column(figure.header, lambda row, name=figure.name: row[0].values(name, row[1]), *shown)
        )
        for lab in dict.fromkeys(lab for g in groups for lab in g.labs if key in g.labs[lab]):
            columns.append(
                Column(
                    lab, lambda row, lab=lab, key=key: row[0].published(lab, key, row[1]), *shown
                )
            )
    rows = [(group, epoch) for group in groups for epoch in range(results.epochs)]
    note = (
        f"Times in seconds, accuracies in per cent. Test: {len(results.dataset.test):,} images, "
        f"after the epoch.{seeds_note(groups)}"
    )
    title = f"By epoch: this run ({results.dataset.title}){_if_labs(groups, ' beside the labs')}"
    return make_table(title, columns, rows, note, mean_and_deviation)


def seeds_note(groups: Sequence[Group]) -> str:
    seeds = max(len(group.series) for group in groups)
    return f" ±: the standard deviation over {seeds} seeds." if seeds > 1 else ""


def _if_labs(groups: Sequence[Group], text: str) -> str:
    """The text, if a lab's figures stand beside those of a group."""
    return text if any(group.labs for group in groups) else ""


def plot_learning(
    results: Results, groups: Sequence[Group], by: Literal["batch", "epoch"]
) -> list[str]:
    """Loss and top-1 by batch (running, from the epoch's start) or epoch; the files' names."""
    return [_plot(results, groups, by, key) for key in ("loss", "top1")]


def _plot(results: Results, groups: Sequence[Group], by: str, key: str) -> str:
    """Each group's mean over its seeds, and each lab's epochs, dashed."""
    name, figure, images = f"{key}_by_{by}.png", BY_NAME[key], len(results.dataset.train)
    curves, seen, last_seen = [], np.array([]), 0
    running = by == "batch" and key == "top1"
    for number, group in enumerate(groups):
        records = [series.epochs if by == "epoch" else series.steps for series in group.series]
        seen = np.cumsum([record["images"] for record in records[0]])
        values = np.array([[record[key] for record in of_seed] for of_seed in records])
        if running:
            values = np.array([_running_top1(of_seed) for of_seed in records])
        means, deviations = figure.scale * values.mean(0), None
        if len(values) > 1:
            deviations = (figure.scale * values.std(0, ddof=1)).tolist()
        curves.append(Curve(group.title, means.tolist(), number, False, seen.tolist(), deviations))
        for lab_number, (lab, figures) in enumerate(group.labs.items(), 1):
            published = figure.scale * np.array(figures[figure.published])
            x = TRAIN_IMAGES * np.arange(1, len(published) + 1)
            last_seen = max(last_seen, x[-1])
            alone = len(groups) == 1
            label, colour = (lab, lab_number) if alone else (f"{group.title}, {lab}", number)
            curves.append(Curve(label, published.tolist(), colour, True, x.tolist()))
    seeds = max(len(group.series) for group in groups)
    band = f" (band: standard deviation over {seeds} seeds)" if seeds > 1 else ""
    plot_curves(
        results.directory / name,
        f"{results.dataset.title}: {figure.axis}, {plural(results.epochs, 'epoch')}",
        "training images seen",
        figure.axis,
        curves,
        f"solid: this run, {images:,} images an epoch{band}"
        + _if_labs(groups, f"; dashed: the labs, {TRAIN_IMAGES:,} CIFAR-10 images an epoch")
        + ("; top-1 so far in the epoch" if running else ""),
        marks=[(images * n, "epoch 1" if n == 1 else str(n)) for n in range(1, results.epochs + 1)],
        logarithmic_x=last_seen > _SQUEEZED * seen[-1],
    )
    return name


def _running_top1(steps: list[Record]) -> np.ndarray:
    epochs = groupby(steps, itemgetter("epoch"))
    return np.concatenate([running_top1(list(epoch)) for _, epoch in epochs])
