"""The table and the plots by epoch that the experiments with one training share."""

from collections.abc import Mapping
from itertools import accumulate
from typing import Any

from experiments.results import Results, Series
from jaxresnet.report.plots import Curve, plot_curves
from jaxresnet.report.tables import Table, number, percent, seconds

# By lab: "loss" and "top1" (in per cent) by epoch, and maybe "epoch_s", the epochs' seconds.
Published = Mapping[str, Mapping[str, Any]]


def epoch_table(results: Results, published: Published) -> Table:
    """The epochs of the run's only training, beside what the labs published."""
    (series,) = results.series
    timed = [lab for lab in published if "epoch_s" in published[lab]]
    rows = []
    for index, epoch in enumerate(series.epochs):
        times = [_at(published[lab]["epoch_s"], index) for lab in timed]
        losses = [_at(lab["loss"], index) for lab in published.values()]
        top1s = [_at(lab["top1"], index) for lab in published.values()]
        rows.append(
            [
                str(index + 1),
                seconds(epoch["seconds"]),
                *(seconds(value) for value in times),
                number(epoch["loss"], 3),
                *(number(value, 3) for value in losses),
                percent(epoch["top1"]),
                *(number(value, 1) for value in top1s),
                number(epoch["test_loss"], 3),
                percent(epoch["test_top1"]),
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
    return Table(_title(results, series), columns, rows, note)


def _title(results: Results, series: Series) -> str:
    return f"{series.label}, rate {series.learning_rate:g}: this run ({results.dataset.words})"


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
    (series,) = results.series
    per_epoch = series.epochs[0]["steps"]
    x = [(step["step"] + 1) / per_epoch for step in series.steps]
    curves = [Curve("this run, each batch", _by_batch(series, key, scale), x=x)]
    for colour, (lab, figures) in enumerate(published.items(), 1):
        shown = figures[key][: len(series.epochs)]
        curves.append(Curve(f"{lab}, each epoch", shown, colour, True))
    name = f"{key}_by_batch.png"
    plot_curves(results.directory / name, _title(results, series), "epochs passed", y_label, curves)
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
