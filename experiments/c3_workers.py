"""C3: the loader's time against its number of workers, alone and while training."""

from dataclasses import dataclass
from statistics import median
from typing import Literal

from rich.console import Console

from experiments.command import run_command
from experiments.loader_times import BEST, Times, best_number, check_workers, time_loader
from experiments.published import published
from experiments.results import Results, describe_protocol
from experiments.runner import open_run
from experiments.settings import RepeatSettings, TimedSettings, parse_settings
from experiments.variants import workers_words
from jaxresnet import platform
from jaxresnet.errors import UserError
from jaxresnet.report.document import Report, write_report
from jaxresnet.report.plots import Curve, plot_curves
from jaxresnet.report.tables import MISSING, Table, median_and_range, number, plural
from jaxresnet.train.metrics import write_json

EXPERIMENT = "c3_workers"

Mode = Literal["loader", "training"]


@dataclass(frozen=True)
class WorkersSettings(RepeatSettings):
    """How the number of workers is varied."""

    repeats: int = 3
    """Passes and trainings with each number, besides a first pass that is told apart."""
    workers_list: tuple[int, ...] = ()
    """The numbers of workers. None: 0, 4, 8, … until the time of the loader alone no longer falls;
    where that is not taken, lab-b's 0 4 8 12."""
    modes: tuple[Mode, ...] = ("loader", "training")
    """loader: passes over the images alone, as lab-c timed them. training: what the training loop
    waits for data, as lab-b did."""


@dataclass(frozen=True)
class C3Settings(TimedSettings):
    timing: WorkersSettings = WorkersSettings()


def main(arguments: list[str]) -> None:
    """Parses the command line and runs the experiment."""
    settings = parse_settings(C3Settings, EXPERIMENT, __doc__ or "", arguments)
    timing = settings.timing
    check_workers(settings.data, timing.workers_list)
    if not timing.modes:
        raise UserError("--modes needs at least one of loader, training")
    with open_run(EXPERIMENT, settings) as run:
        alone: Times = {}
        if "loader" in timing.modes:
            alone = time_loader(run, timing.workers_list, timing.repeats)
        numbers = list(alone) or timing.workers_list or published()["c3"]["lab-b"]["workers"]
        variants = settings.variants_with(numbers) if "training" in timing.modes else []
        if variants:
            run.train(variants)
        run.finish(variants, lambda results, console: report(results, alone, console))


def report(results: Results, alone: Times, console: Console) -> None:
    """Writes report.md with its plots and best.json, and prints the tables."""
    without_start = {workers: times[1:] for workers, times in alone.items()}
    waits = _while_training(results, "input_wait")
    words, tables, plots, best = results.dataset.words, [], [], {}
    if alone:
        best["loader"] = best_number(without_start)
        tables.append(_alone_table(alone, results))
        plots.append(_plot_alone(results, without_start))
    if waits:
        best["training"] = best_number(waits)
        tables.append(_training_table(results))
        plots.append(_plot_training(results, waits))
    threads = platform.cpu_threads()
    protocol = (
        describe_protocol(results)
        if results.series
        else f"{len(results.dataset.train):,} {words}, batch size "
        f"{results.settings.training.batch_size}; {platform.machine()}."
    )
    write_json(results.directory / BEST, best)
    report = Report(
        "C3: the number of input workers",
        f"{protocol} This process may use {threads} threads. Best is the "
        "smallest number of workers whose median is within one spread of the fastest: the "
        "spread is from the least to the greatest time of that one.",
        tables,
        plots,
        asked="How does the time for loading data depend on the number of workers, and which "
        "number is best?",
        findings=_findings(without_start, waits, best),
    )
    write_report(results.directory, report, console)


def _while_training(results: Results, key: str) -> dict[int, list[float]]:
    """By number of workers: the sum over the epochs, of each repeat."""
    found: dict[int, list[float]] = {}
    for series in results.series:
        found.setdefault(int(series.variant.workers), []).append(sum(series.values(key)))
    return found


def _findings(alone: Times, waits: Times, best: dict[str, int]) -> list[str]:
    found = []
    for mode, times, words in (
        ("loader", alone, "Alone, the loader"),
        ("training", waits, "While training, the loop"),
    ):
        if not times:
            continue
        fastest = min(times, key=lambda workers: median(times[workers]))
        verb = "takes" if mode == "loader" else "waits"
        slowest = max(times, key=lambda workers: median(times[workers]))
        found.append(
            f"{words} {verb} least with {workers_words(fastest)}, "
            f"{number(median(times[fastest]), 3)} s, and most with {slowest}, "
            f"{number(median(times[slowest]), 3)} s; best is {best[mode]}."
        )
    labs = published()["c3"]
    theirs = ", ".join(f"{lab} {figures['best_workers']}" for lab, figures in labs.items())
    return [*found, f"The labs found: {theirs}."]


def _alone_table(alone: Times, results: Results) -> Table:
    lab_c = _by_workers("lab-c", "total_s")
    rows = [
        [
            str(workers),
            number(times[0], 3) if times else MISSING,
            median_and_range(times[1:], _three_digits) if times else MISSING,
            number(lab_c.get(workers), 3),
        ]
        for workers in sorted({*alone, *lab_c})
        for times in [alone.get(workers, ())]
        if times or workers <= max(alone)
    ]
    note = (
        f"Seconds for a pass over {len(results.dataset.train):,} training images (lab-c: 50,000), "
        "medians with the least and the greatest."
    )
    columns = ["workers", "first pass", "later passes", "lab-c"]
    title = f"The loader alone: this run ({results.dataset.words}) beside lab-c"
    return Table(title, columns, rows, note)


def _three_digits(value: float) -> str:
    return number(value, 3)


def _training_table(results: Results) -> Table:
    lab_b = _by_workers("lab-b", "data_loading_s")
    keys = ("input_wait", "input_stall", "compute", "seconds")
    figures = [_while_training(results, key) for key in keys]
    rows = [
        [
            str(workers),
            *(median_and_range(by_workers[workers], number) for by_workers in figures),
            median_and_range(_first_epochs(results, workers), number),
            number(lab_b.get(workers)),
        ]
        for workers in figures[0]
    ]
    epochs = results.settings.training.epochs
    note = (
        f"Seconds over {plural(epochs, 'epoch')} of {len(results.dataset.train):,} images (lab-b: "
        "5 of 50,000), medians over the repeats with the least and the greatest. Data loading: "
        "what the loop was blocked in getting batches."
    )
    columns = [
        "workers", "data loading", "input stall", "com-\nputation", "total", "first epoch",
        "lab-b\ndata loading",
    ]  # fmt: skip
    title = f"While training: this run ({results.dataset.words}) beside lab-b"
    return Table(title, columns, rows, note)


def _first_epochs(results: Results, workers: int) -> list[float]:
    return [
        series.values("seconds")[0]
        for series in results.series
        if series.variant.workers == workers
    ]


def _by_workers(lab: str, key: str) -> dict[int, float]:
    figures = published()["c3"][lab]
    return dict(zip(figures["workers"], figures[key], strict=True))


def _plot_alone(results: Results, alone: Times) -> str:
    name = "loader_alone.png"
    curves = [_curve("this run", alone), _published_curve("lab-c", "total_s")]
    title = f"{results.dataset.words}: the loader alone"
    note = f"this run: a pass over {len(results.dataset.train):,} images; lab-c: 50,000"
    path = results.directory / name
    plot_curves(path, title, "workers", "seconds a pass", curves, note, logarithmic=True)
    return name


def _plot_training(results: Results, waits: Times) -> str:
    name = "while_training.png"
    epochs = results.settings.training.epochs
    curves = [_curve("this run", waits), _published_curve("lab-b", "data_loading_s")]
    title = f"{results.dataset.words}: data loading while training"
    images = f"{len(results.dataset.train):,} images"
    note = f"this run: {plural(epochs, 'epoch')} of {images}; lab-b: 5 of 50,000"
    path = results.directory / name
    plot_curves(path, title, "workers", "seconds", curves, note, logarithmic=True)
    return name


def _curve(label: str, times: Times) -> Curve:
    return Curve(
        f"{label}, median and range",
        [median(values) for values in times.values()],
        x=list(times),
        ranges=[(min(values), max(values)) for values in times.values()],
    )


def _published_curve(lab: str, key: str) -> Curve:
    figures = _by_workers(lab, key)
    return Curve(lab, list(figures.values()), 1, True, x=list(figures))


if __name__ == "__main__":
    run_command(main)
