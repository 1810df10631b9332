"""C3: the loader's time against its number of workers, alone and while training."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from statistics import median
from typing import Literal

from experiments.harness.best_workers import BEST, best_number
from experiments.harness.claims import claim
from experiments.harness.command import run_command
from experiments.harness.epoch_times import compare_workers, training_times
from experiments.harness.loader_times import Times, check_workers, time_loader
from experiments.harness.published import published
from experiments.harness.results import Results, describe_run
from experiments.harness.run import open_run
from experiments.harness.settings import RepeatOptions, TimedSettings, make_variants, parse_settings
from jaxresnet import platform
from jaxresnet.data.loaders import describe_workers
from jaxresnet.errors import UserError
from jaxresnet.options import plural, unpublished
from jaxresnet.report.document import Claim, Report
from jaxresnet.train.log import write_json

EXPERIMENT = "c3_workers"

Mode = Literal["loader", "training"]


@dataclass(frozen=True)
class WorkersOptions(RepeatOptions):
    """How the number of workers is varied."""

    repeats: int = unpublished(3, affects="result", at_least=1)
    """Passes and trainings with each number, besides a first pass that is told apart."""
    workers_list: tuple[int, ...] = unpublished((), affects="result", at_least=0, distinct=True)
    """The numbers of workers. None: 0, 4, 8, … until the time of the loader alone no longer falls;
    where that is not taken, lab-b's 0 4 8 12."""
    modes: tuple[Mode, ...] = unpublished(("loader", "training"), affects="result", distinct=True)
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
    check_workers(settings.loader)
    with open_run(EXPERIMENT, settings) as run:
        alone: Times = {}
        if "loader" in timing.modes:
            alone = time_loader(run, timing.workers_list, timing.repeats)
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
    best = {mode: best_number(times) for mode, times in timed.items()}
    write_json(results.directory / BEST, best)
    compared = []
    protocol = f"{images}, batch size {results.settings.training.batch_size}; {platform.machine()}."
    if alone:
        columns = {
            workers: {"first pass": times[:1], "later passes": times[1:]}
            for workers, times in alone.items()
        }
        work = (f"a pass over {images}", "50,000")
        compared.append(
            compare_workers(results, "The loader alone", work, columns, "later passes", "lab-c", 3)
        )
    if waits:
        columns = {n: training_times(group) for n, group in groups.items()}
        work = (f"{plural(results.epochs, 'epoch')} of {images}", "5 of 50,000")
        compared.append(
            compare_workers(results, "While training", work, columns, "data\nloading", "lab-b")
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
            f"{subjects[mode]} least with {describe_workers(fastest)}, {medians[fastest]:.3f} s, "
            f"and most with {slowest}, {medians[slowest]:.3f} s; best is {best[mode]}."
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


if __name__ == "__main__":
    run_command(main)
