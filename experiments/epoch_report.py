"""The table and the plots by epoch that the experiments with one training share."""

from collections.abc import Mapping
from itertools import accumulate
from statistics import fmean
from typing import Any

import numpy as np

from experiments.results import Results, Series
from jaxresnet.optim import get_optimizer
from jaxresnet.report.plots import Curve, plot_curves
from jaxresnet.report.tables import (
    Show,
    Table,
    loss_text,
    mean_and_deviation,
    number,
    percent,
    seconds,
)

# By lab: "loss" and "top1" (in per cent) by epoch, and maybe "epoch_s", the epochs' seconds.
Published = Mapping[str, Mapping[str, Any]]


def epoch_table(results: Results, published: Published) -> Table:
    """The epochs of the run's training, or means over its seeds, beside what the labs published."""
    group = results.series
    timed = [lab for lab in published if "epoch_s" in published[lab]]
    rows = []
    for index in range(results.settings.training.epochs):

        def ours(key: str, show: Show, index=index) -> str:
            return mean_and_deviation([series.values(key)[index] for series in group], show)

        times = [_at(published[lab]["epoch_s"], index) for lab in timed]
        losses = [_at(lab["loss"], index) for lab in published.values()]
        top1s = [_at(lab["top1"], index) for lab in published.values()]
        rows.append(
            [
                str(index + 1),
                ours("seconds", seconds),
                *(seconds(value) for value in times),
                ours("loss", loss_text),
                *(number(value, 3) for value in losses),
                ours("top1", percent),
                *(number(value, 1) for value in top1s),
                ours("test_loss", loss_text),
                ours("test_top1", percent),
            ]
        )
    columns = [
        "epoch", "time", *timed, "loss", *published, "top-1", *published,
        "test\nloss", "test\ntop-1",
    ]  # fmt: skip
    note = (
        f"Times in seconds, top-1 in per cent. Test: {len(results.dataset.test):,} images, after "
        "the epoch."
    )
    if len(group) > 1:
        note += f" ±: the standard deviation over {len(group)} seeds."
    return Table(_title(results), columns, rows, note)


def learning_findings(results: Results, published: Published) -> list[str]:
    """What the run learnt, and what the labs published for its last epoch."""
    last = results.settings.training.epochs - 1
    first_loss, loss, top1, test_top1 = (
        fmean(series.values(key)[index] for series in results.series)
        for key, index in (("loss", 0), ("loss", last), ("top1", last), ("test_top1", last))
    )
    losses = f"went from {first_loss:.3f} to {loss:.3f}" if last else f"was {loss:.3f}"
    found = [
        f"The loss of an epoch {losses}, top-1 in training reached "
        f"{top1:.1%} and on the test images {test_top1:.1%}."
    ]
    for lab, figures in published.items():
        at = min(last, len(figures["loss"]) - 1)
        found.append(
            f"{lab} had {figures['loss'][at]:.3f} and {figures['top1'][at]:.1f}% in its epoch "
            f"{at + 1}."
        )
    return found


def _title(results: Results) -> str:
    series = results.series[0]
    label = get_optimizer(series.variant.optimizer).label
    return f"{label}, rate {series.learning_rate:g}: this run ({results.dataset.words})"


def _at(values: list[float], index: int) -> float | None:
    return values[index] if index < len(values) else None


def plot_batches(results: Results, published: Published) -> list[str]:
    """Loss and running top-1 after every batch, the labs' epochs dashed; the files' names."""
    return [
        _plot_batches(results, published, "loss", "training loss", 1),
        _plot_batches(results, published, "top1", "training top-1 so far in the epoch (%)", 100),
    ]


def _plot_batches(
    results: Results, published: Published, key: str, y_label: str, scale: float
) -> str:
    group = results.series
    first = group[0]
    x = [(step["step"] + 1) / first.epochs[0]["steps"] for step in first.steps]
    values = np.array([_by_batch(series, key, scale) for series in group])
    several = len(group) > 1
    label = f"this run, mean of {len(group)} seeds" if several else "this run"
    deviations = values.std(0, ddof=1).tolist() if several else None
    curves = [Curve(f"{label}, each batch", values.mean(0).tolist(), x=x, deviations=deviations)]
    for colour, (lab, figures) in enumerate(published.items(), 1):
        shown = figures[key][: len(first.epochs)]
        curves.append(Curve(f"{lab}, each epoch", shown, colour, True))
    name = f"{key}_by_batch.png"
    plot_curves(results.directory / name, _title(results), "epochs passed", y_label, curves)
    return name


def _by_batch(series: Series, key: str, scale: float) -> list[float]:
    """Each batch's loss, or the top-1 over the epoch's batches so far."""
    if key == "loss":
        return [scale * step["loss"] for step in series.steps]
    values = []
    for epoch in range(len(series.epochs)):
        steps = [step for step in series.steps if step["epoch"] == epoch]
        correct = accumulate(step["correct"] for step in steps)
        images = accumulate(step["images"] for step in steps)
        values += [scale * right / seen for right, seen in zip(correct, images, strict=True)]
    return values
