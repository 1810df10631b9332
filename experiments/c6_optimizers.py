"""C6: the same network trained with five optimizers."""

from collections.abc import Callable
from statistics import fmean

from rich.console import Console

from experiments.command import run_command
from experiments.published import published
from experiments.results import Results, Series, describe_protocol, means_and_deviations
from experiments.runner import run_experiment
from experiments.settings import SeveralSettings, parse_settings
from jaxresnet.optim import get_optimizer
from jaxresnet.report.document import Report, write_report
from jaxresnet.report.plots import Curve, plot_curves
from jaxresnet.report.tables import (
    MISSING,
    Show,
    Table,
    loss_text,
    mean_and_deviation,
    number,
    percent,
    seconds,
)

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
    report = Report(
        TITLE,
        describe_protocol(results),
        [_table(results)],
        plots,
        asked="Train the same network with five optimizers: which learns fastest, and what does it "
        "cost?",
        findings=_findings(results),
        details=[_epoch_table(results)],
    )
    write_report(results.directory, report, console)


def _findings(results: Results) -> list[str]:
    """The order of the optimizers by the last epoch's training loss, here and in lab-c."""
    groups = results.by_optimizer()
    final = {
        name: fmean(series.values("loss")[-1] for series in group) for name, group in groups.items()
    }
    lab_c = {
        name: figures["loss"][-1]
        for name, figures in published()["c6"]["lab-c"].items()
        if name in final
    }
    times = [fmean(series.mean("seconds") for series in group) for group in groups.values()]
    return [
        f"By the training loss of the last epoch: {_ranking(final)}.",
        f"lab-c, after 5 epochs: {_ranking(lab_c)}." if lab_c else "",
        f"An epoch took {' to '.join(dict.fromkeys(map(seconds, (min(times), max(times)))))} s.",
    ]


def _ranking(losses: dict[str, float]) -> str:
    ranked = sorted(losses.items(), key=lambda item: item[1])
    return "; ".join(f"{get_optimizer(name).label} {loss:.3f}" for name, loss in ranked)


def _table(results: Results) -> Table:
    """One row for this run and one for each lab that published figures, by optimizer."""
    rows = []
    for name, group in results.by_optimizer().items():
        rate = f"{group[0].learning_rate:g}"
        rows.append([get_optimizer(name).label, rate, *_own_figures(group)])
        if name in published()["c6"]["lab-b"]:
            rows.append(["  lab-b", MISSING, *_lab_b_figures(name)])
            rows.append(["  lab-c", "0.1", *_lab_c_figures(name)])
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
        f"{_seed_words(results)}"
        "lab-b's Adam cannot have run at rate 0.1 (compare lab-c's): --protocol defaults gives "
        "each optimizer its usual rate."
    )
    title = f"This run ({results.dataset.words}) beside the published figures"
    return Table(title, columns, rows, note)


def _seed_words(results: Results) -> str:
    seeds = max(len(group) for group in results.by_optimizer().values())
    return f"±: the standard deviation over {seeds} seeds. " if seeds > 1 else ""


def _own_figures(group: list[Series]) -> list[str]:
    """Of the trainings with one optimizer, one for each seed."""

    def over_seeds(show: Show, figure: Callable[[Series], float]) -> str:
        return mean_and_deviation([figure(series) for series in group], show)

    times = ("seconds", "input_wait", "input_stall", "compute")
    return [
        *(over_seeds(seconds, lambda series, key=key: series.mean(key)) for key in times),
        over_seeds(loss_text, lambda series: series.mean("loss")),
        over_seeds(loss_text, lambda series: series.values("loss")[-1]),
        over_seeds(percent, lambda series: series.mean("top1")),
        over_seeds(percent, lambda series: series.values("top1")[-1]),
        over_seeds(percent, lambda series: max(series.values("best_top1"))),
        over_seeds(percent, lambda series: series.values("test_top1")[-1]),
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
    for name, group in results.by_optimizer().items():
        theirs = lab_c.get(name, {"loss": [], "top1": []})
        for index in range(results.settings.training.epochs):

            def ours(key: str, show: Show, group=group, index=index) -> str:
                return mean_and_deviation([series.values(key)[index] for series in group], show)

            has = index < len(theirs["loss"])
            rows.append(
                [
                    f"{get_optimizer(name).label}, {index + 1}",
                    ours("loss", loss_text),
                    number(theirs["loss"][index] if has else None, 3),
                    ours("top1", percent),
                    number(theirs["top1"][index] if has else None, 1),
                    ours("test_loss", loss_text),
                    ours("test_top1", percent),
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
    for colour, (optimizer, group) in enumerate(results.by_optimizer().items()):
        label = get_optimizer(optimizer).label
        means, deviations = means_and_deviations(group, key, scale)
        curves.append(Curve(label, means, colour, deviations=deviations))
        if optimizer in lab_c:
            curves.append(Curve(f"{label}, lab-c", lab_c[optimizer][key], colour, True))
    name = f"{key}_by_epoch.png"
    title = f"Five optimizers, {results.dataset.words}: {y_label}"
    if len(results.by_optimizer()) != 5:
        title = f"Optimizers, {results.dataset.words}: {y_label}"
    words = "synthetic images" if results.dataset.synthetic else "CIFAR-10 images"
    size = f"{len(results.dataset.train):,} {words}"
    seeds = max(len(group) for group in results.by_optimizer().values())
    band = f" (band: standard deviation over {seeds} seeds)" if seeds > 1 else ""
    note = f"solid: this run{band}, {size} an epoch; dashed: lab-c, 50,000 CIFAR-10 images an epoch"
    plot_curves(results.directory / name, title, "epoch", y_label, curves, note)
    return name


if __name__ == "__main__":
    run_command(main)
