"""C6: the same network trained with five optimizers."""

from statistics import fmean

from rich.console import Console

from experiments.command import run_command
from experiments.published import published
from experiments.results import Results, Series, describe_protocol
from experiments.runner import run_experiment
from experiments.settings import SeveralSettings, parse_settings
from jaxresnet.report.document import write_report
from jaxresnet.report.plots import Curve, plot_curves
from jaxresnet.report.tables import MISSING, Table, number, percent, seconds

EXPERIMENT = "c6_optimizers"
TITLE = "C6: five optimizers"


def main(arguments: list[str]) -> None:
    """Parses the command line and runs the experiment."""
    settings = parse_settings(SeveralSettings, EXPERIMENT, __doc__ or "", arguments)
    run_experiment(EXPERIMENT, settings, report)


def report(results: Results, console: Console) -> None:
    """Writes report.md with its plots, and prints the tables."""
    plots = [
        _plot(results, "loss", "training loss", scale=1),
        _plot(results, "top1", "training top-1 (%)", scale=100),
    ]
    write_report(
        results.directory,
        TITLE,
        describe_protocol(results),
        [_table(results), _epoch_table(results)],
        plots,
        console,
    )


def _table(results: Results) -> Table:
    """One row for this run and one for each lab that published figures, by optimizer."""
    rows = []
    for series in results.series:
        rows.append([series.label, f"{series.learning_rate:g}", *_own_figures(series)])
        if series.name in published()["c6"]["lab-b"]:
            rows.append(["  lab-b", MISSING, *_lab_b_figures(series.name)])
            rows.append(["  lab-c", "0.1", *_lab_c_figures(series.name)])
    columns = [
        "optimizer", "rate", "epoch\ntime", "input\nwait", "input\nstall", "com-\npute",
        "mean\nloss", "final\nloss", "mean\ntop-1", "final\ntop-1", "best\ntop-1", "test\ntop-1",
    ]  # fmt: skip
    note = (
        "Times are seconds per epoch, averaged; top-1 is in per cent. Mean: over the epochs; "
        "final: the last epoch; best: the highest that an epoch's running top-1 stood at after "
        "any batch, as lab-c has it; test: after the last epoch, on "
        f"{len(results.dataset.test):,} images. "
        "lab-b and lab-c trained for 5 epochs of all 50,000 CIFAR-10 images, in PyTorch on a GPU. "
        "lab-b's Adam cannot have run at rate 0.1 (compare lab-c's): --protocol defaults gives "
        "each optimizer its usual rate."
    )
    title = f"This run ({results.dataset.words}) beside the published figures"
    return Table(title, columns, rows, note)


def _own_figures(series: Series) -> list[str]:
    return [
        *(seconds(series.mean(key)) for key in ("seconds", "input_wait", "input_stall", "compute")),
        number(series.mean("loss"), 3),
        number(series.values("loss")[-1], 3),
        percent(series.mean("top1")),
        percent(series.values("top1")[-1]),
        percent(max(series.values("best_top1"))),
        percent(series.values("test_top1")[-1]),
    ]


def _lab_b_figures(name: str) -> list[str]:
    lab = published()["c6"]["lab-b"][name]
    loss, top1 = number(lab["loss"], 3), percent(lab["top1"])
    return [
        seconds(lab["epoch_s"]), *[MISSING] * 3, loss, MISSING, top1, *[MISSING] * 3,
    ]  # fmt: skip


def _lab_c_figures(name: str) -> list[str]:
    lab = published()["c6"]["lab-c"][name]
    loss, top1 = lab["loss"], lab["top1"]
    return [
        *[MISSING] * 4,
        number(fmean(loss), 3),
        number(loss[-1], 3),
        number(fmean(top1), 1),
        number(top1[-1], 1),
        percent(lab["best"]),
        MISSING,
    ]


def _epoch_table(results: Results) -> Table:
    lab_c = published()["c6"]["lab-c"]
    rows = []
    for series in results.series:
        theirs = lab_c.get(series.name, {"loss": [], "top1": []})
        for index, epoch in enumerate(series.epochs):
            has = index < len(theirs["loss"])
            rows.append(
                [
                    f"{series.label}, {index + 1}",
                    number(epoch["loss"], 3),
                    number(theirs["loss"][index] if has else None, 3),
                    percent(epoch["top1"]),
                    number(theirs["top1"][index] if has else None, 1),
                    number(epoch["test_loss"], 3),
                    percent(epoch["test_top1"]),
                ]
            )
    columns = [
        "optimizer, epoch", "loss", "lab-c", "top-1 %", "lab-c", "test loss", "test top-1 %",
    ]  # fmt: skip
    return Table(f"By epoch (this run: {results.dataset.words})", columns, rows)


def _plot(results: Results, key: str, y_label: str, scale: float) -> str:
    """One figure by epoch for every optimizer, lab-c's dashed; returns the file's name."""
    lab_c = published()["c6"]["lab-c"]
    curves = []
    for colour, series in enumerate(results.series):
        values = [scale * value for value in series.values(key)]
        curves.append(Curve(series.label, values, colour))
        if series.name in lab_c:
            curves.append(Curve(f"{series.label}, lab-c", lab_c[series.name][key], colour, True))
    name = f"{key}_by_epoch.png"
    title = f"Five optimizers, {results.dataset.words}: {y_label}"
    if len(results.series) != 5:
        title = f"Optimizers, {results.dataset.words}: {y_label}"
    words = "synthetic images" if results.dataset.synthetic else "CIFAR-10 images"
    size = f"{len(results.dataset.train):,} {words}"
    note = f"solid: this run, {size} an epoch; dashed: lab-c, 50,000 CIFAR-10 images an epoch"
    plot_curves(results.directory / name, title, "epoch", y_label, curves, note)
    return name


if __name__ == "__main__":
    run_command(main)
