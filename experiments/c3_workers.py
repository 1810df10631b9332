"""C3: the loader's time against its number of workers, alone and while training."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import median
from typing import Literal

from experiments.harness import loader_times
from experiments.harness.claims import claim
from experiments.harness.command import run_command
from experiments.harness.loader_times import Times
from experiments.harness.published import published
from experiments.harness.results import Results, describe_run
from experiments.harness.run import open_run
from experiments.harness.settings import RepeatOptions, TimedSettings, make_variants, parse_settings
from jaxresnet import platform
from jaxresnet.data.loaders import workers_words
from jaxresnet.errors import UserError
from jaxresnet.options import option, plural
from jaxresnet.report.document import Claim, Report
from jaxresnet.report.plots import Curve, plot_curves
from jaxresnet.report.tables import Column, Table, make_table
from jaxresnet.train.log import write_json

EXPERIMENT = "c3_workers"

Mode = Literal["loader", "training"]


@dataclass(frozen=True)
class WorkersOptions(RepeatOptions):
    """How the number of workers is varied."""

    repeats: int = option(3, affects="result", published=False, says="", at_least=1)
    """Passes and trainings with each number, besides a first pass that is told apart."""
    workers_list: tuple[int, ...] = option(
        (), affects="result", published=False, says="", at_least=0
    )
    """The numbers of workers. None: 0, 4, 8, … until the time of the loader alone no longer falls;
    where that is not taken, lab-b's 0 4 8 12."""
    modes: tuple[Mode, ...] = option(
        ("loader", "training"), affects="result", published=False, says=""
    )
    """loader: passes over the images alone, as lab-c timed them. training: what the training loop
    waits for data, as lab-b did."""

    def check(self) -> None:
        """Raises UserError if nothing is left to do."""
        if not self.modes:
            raise UserError("--modes needs at least one of loader, training")


@dataclass(frozen=True)
class C3Settings(TimedSettings):
    timing: WorkersOptions = WorkersOptions()


SETTINGS = C3Settings


def main(arguments: list[str]) -> None:
    """Parses the command line and runs the experiment."""
    settings = parse_settings(SETTINGS, EXPERIMENT, __doc__ or "", arguments)
    timing = settings.timing
    loader_times.check_workers(settings.loader)
    with open_run(EXPERIMENT, settings) as run:
        alone: Times = {}
        if "loader" in timing.modes:
            alone = loader_times.time_loader(run, timing.workers_list, timing.repeats)
        numbers = list(alone) or timing.workers_list or published()["c3"]["lab-b"]["workers"]
        variants = make_variants(settings, workers=numbers) if "training" in timing.modes else []
        if variants:
            run.train(variants)
        run.finish(variants, partial(report, alone=alone))


def report(results: Results[C3Settings], alone: Times) -> Report:
    """Both modes' tables and plots; the best numbers go to best.json, for C4."""
    images, groups = results.train_images, results.by("workers")
    later = {workers: times[1:] for workers, times in alone.items()}
    waits = {workers: [s.total("input_wait") for s in group] for workers, group in groups.items()}
    timed = {mode: times for mode, times in (("loader", later), ("training", waits)) if times}
    best = {mode: loader_times.best_number(times) for mode, times in timed.items()}
    write_json(results.directory / loader_times.BEST, best)
    compared = []
    protocol = f"{images}, batch size {results.settings.training.batch_size}; {platform.machine()}."
    if alone:
        columns = {
            workers: {"first pass": times[:1], "later passes": times[1:]}
            for workers, times in alone.items()
        }
        work = (f"a pass over {images}", "50,000")
        compared.append(
            _compare(results, "The loader alone", work, columns, "later passes", "lab-c", 3)
        )
    if waits:
        columns = {n: loader_times.training_times(group) for n, group in groups.items()}
        work = (f"{plural(results.epochs, 'epoch')} of {images}", "5 of 50,000")
        compared.append(
            _compare(results, "While training", work, columns, "data\nloading", "lab-b")
        )
        protocol = describe_run(results)
    return Report(
        "C3: the number of input workers",
        f"{protocol} Data loading: what a pass of the loader takes; while "
        "training, what the loop was blocked in getting batches. Best is the smallest number of "
        "workers whose median is within one spread of the fastest: the spread is from the least "
        "to the greatest time of that one.",
        [table for table, _ in compared],
        [plot for _, plot in compared],
        asked="How does the time for loading data depend on the number of workers, and which "
        "number is best?",
        findings=_findings(timed, best),
        claims=_claims(best),
    )


def _findings(timed: Mapping[str, Times], best: dict[str, int]) -> list[str]:
    sentences = []
    subjects = {"loader": "Alone, the loader takes", "training": "While training, the loop waits"}
    for mode, times in timed.items():
        medians = {workers: median(values) for workers, values in times.items()}
        fastest, slowest = (pick(medians, key=medians.__getitem__) for pick in (min, max))
        sentences.append(
            f"{subjects[mode]} least with {workers_words(fastest)}, {medians[fastest]:.3f} s, and "
            f"most with {slowest}, {medians[slowest]:.3f} s; best is {best[mode]}."
        )
    labs = published()["c3"].items()
    numbers = ", ".join(f"{lab} {figures['best_workers']}" for lab, figures in labs)
    return [*sentences, f"The labs found: {numbers}."]


def _claims(best: dict[str, int]) -> list[Claim]:
    """Each lab's best number: they agree if one of the modes has the same here."""
    return [
        claim(
            f"{lab}: the best number of workers is {figures['best_workers']}",
            "; ".join(f"{mode}: {number}" for mode, number in best.items()),
            figures["best_workers"] in best.values(),
            "it depends on cores and device; the labs do not agree with one another",
        )
        for lab, figures in published()["c3"].items()
    ]


def _compare(
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


if __name__ == "__main__":
    run_command(main)
