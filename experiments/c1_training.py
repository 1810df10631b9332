"""C1: train ResNet-18 on CIFAR-10 with one optimizer; loss and top-1 of every batch."""

from itertools import accumulate

from rich.console import Console

from experiments.published import published
from experiments.runner import Results, Series, describe_protocol, run_command, run_experiment
from experiments.settings import SingleSettings, parse_settings
from jaxresnet.report.document import write_report
from jaxresnet.report.plots import Curve, plot_curves
from jaxresnet.report.tables import Table, number, percent, seconds

EXPERIMENT = "c1_training"


def main(arguments: list[str]) -> None:
    """Parses the command line and runs the experiment."""
    settings = parse_settings(SingleSettings, EXPERIMENT, __doc__ or "", arguments)
    run_experiment(EXPERIMENT, settings, report)


def report(results: Results, console: Console) -> None:
    """Writes report.md with its plots, and prints the table."""
    (series,) = results.series
    plots = [
        _plot(results, series, "loss", "training loss of each batch", "loss", 1),
        _plot(results, series, "top1", "training top-1 so far in each epoch", "top-1 (%)", 100),
    ]
    write_report(
        results.directory,
        f"C1: training with {series.label}",
        f"{describe_protocol(results)} The loss and top-1 of each batch are in steps.jsonl.",
        [epoch_table(results, published()["c6"]["lab-c"].get(series.name), "lab-c")],
        plots,
        console,
    )


def epoch_table(results: Results, lab: dict[str, list[float]] | None, lab_name: str) -> Table:
    """The epochs of the run's only training, beside one lab's loss and top-1 (in per cent)."""
    (series,) = results.series
    loss, top1 = (lab["loss"], lab["top1"]) if lab else ([], [])
    rows = [
        [
            str(index + 1),
            seconds(epoch["seconds"]),
            number(epoch["loss"], 3),
            number(loss[index] if index < len(loss) else None, 3),
            percent(epoch["top1"]),
            number(top1[index] if index < len(top1) else None, 1),
            number(epoch["test_loss"], 3),
            percent(epoch["test_top1"]),
        ]
        for index, epoch in enumerate(series.epochs)
    ]
    columns = [
        "epoch", "time s", "loss", lab_name, "top-1 %", lab_name, "test loss", "test top-1 %",
    ]  # fmt: skip
    return Table(
        f"{series.label}, rate {series.learning_rate:g} ({results.dataset.words})",
        columns,
        rows,
        f"The columns {lab_name} are the published figures; test: all of "
        f"{len(results.dataset.test):,} images, after the epoch.",
    )


def _plot(
    results: Results, series: Series, key: str, title: str, y_label: str, scale: float
) -> str:
    """The figure after every batch, over the epochs passed; lab-c's by epoch beside it."""
    per_epoch = series.epochs[0]["steps"]
    x = [(step["step"] + 1) / per_epoch for step in series.steps]
    curves = [Curve("this run", _by_batch(series, key, scale), x=x)]
    lab = published()["c6"]["lab-c"].get(series.name)
    if lab is not None:
        shown = lab[key][: len(series.epochs)]
        curves.append(Curve("lab-c, whole epochs", shown, 1, True))
    name = f"{key}_by_batch.png"
    plot_curves(
        results.directory / name,
        f"{series.label}, {results.dataset.words}: {title}",
        "epochs",
        y_label,
        curves,
    )
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


if __name__ == "__main__":
    run_command(main)
