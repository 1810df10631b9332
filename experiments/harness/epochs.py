"""Tables by epoch and curves over the images seen, beside what the labs published."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from typing import Any

import numpy as np

from experiments.harness.published import TRAIN_IMAGES
from experiments.harness.results import Results, Series
from jaxresnet.options import plural
from jaxresnet.report.plots import Curve, plot_curves
from jaxresnet.report.tables import Column, Table, make_table, mean_and_deviation
from jaxresnet.train.figures import BY_NAME, FIGURES, running_top1

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
    for figure in (figure for figure in FIGURES if figure.header and not figure.detail):
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
        f"Times in seconds, top-1 in per cent. Test: {len(results.dataset.test):,} images, after "
        f"the epoch.{seeds_note(groups)}"
    )
    title = f"By epoch: this run ({results.dataset.title}) beside the labs"
    return make_table(title, columns, rows, note, mean_and_deviation)


def seeds_note(groups: Sequence[Group]) -> str:
    seeds = max(len(group.series) for group in groups)
    return f" ±: the standard deviation over {seeds} seeds." if seeds > 1 else ""


def plot_by_batch(results: Results, group: Group) -> list[str]:
    """Loss and running top-1 after every batch, the labs' epochs dashed; the files' names."""
    seen = np.cumsum([step["images"] for step in group.series[0].steps])
    losses = [[step["loss"] for step in series.steps] for series in group.series]
    top1s = [
        np.concatenate(
            [running_top1(list(steps)) for _, steps in groupby(series.steps, itemgetter("epoch"))]
        )
        for series in group.series
    ]
    return [
        _plot(results, f"{key}_by_batch.png", key, seen, [(group, values)])
        for key, values in (("loss", losses), ("top1", top1s))
    ]


def plot_by_epoch(results: Results, groups: Sequence[Group]) -> list[str]:
    """Loss and top-1 of each epoch of every group, the labs' dashed; the files' names."""
    seen = np.arange(1, results.epochs + 1) * len(results.dataset.train)
    names = []
    for key in ("loss", "top1"):
        values = [(group, [series.values(key) for series in group.series]) for group in groups]
        names.append(_plot(results, f"{key}_by_epoch.png", key, seen, values))
    return names


def _plot(
    results: Results,
    name: str,
    key: str,
    seen: np.ndarray,
    groups: Sequence[tuple[Group, Sequence]],
) -> str:
    """Each group's mean over its seeds, and each lab's curve; the file's name.

    Args:
      seen: training images, of each of a seed's values.
      groups: with a sequence of values for each seed.
    """
    figure, images, last_seen = BY_NAME[key], len(results.dataset.train), seen[-1]
    curves, epochs = [], range(1, results.epochs + 1)
    for number, (group, values) in enumerate(groups):
        means = (figure.scale * np.mean(values, 0)).tolist()
        deviations = (
            (figure.scale * np.std(values, 0, ddof=1)).tolist() if len(values) > 1 else None
        )
        curves.append(Curve(group.title, means, number, x=seen.tolist(), deviations=deviations))
        for lab_number, (lab, figures) in enumerate(group.labs.items(), 1):
            values = figure.scale * np.array(figures[figure.published])
            x = TRAIN_IMAGES * np.arange(1, len(values) + 1)
            last_seen = max(last_seen, x[-1])
            label = lab if len(groups) == 1 else f"{group.title}, {lab}"
            colour = lab_number if len(groups) == 1 else number
            curves.append(Curve(label, values.tolist(), colour, True, x=x.tolist()))
    seeds = max(len(group.series) for group, _ in groups)
    band = f" (band: standard deviation over {seeds} seeds)" if seeds > 1 else ""
    plot_curves(
        results.directory / name,
        f"{results.dataset.title}: {figure.axis}, {plural(results.epochs, 'epoch')}",
        "training images seen",
        figure.axis,
        curves,
        f"solid: this run, {images:,} images an epoch{band}; dashed: the labs, {TRAIN_IMAGES:,} "
        "CIFAR-10 images an epoch",
        marks=[
            (images * epoch, f"epoch {epoch}" if epoch == 1 else f"{epoch}") for epoch in epochs
        ],
        logarithmic_x=last_seen > _SQUEEZED * seen[-1],
    )
    return name
