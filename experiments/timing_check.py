"""Whether the clock is right: known delays and durations, and what the instruments cost."""

import io
import itertools
import tempfile
import time
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import cast

import jax
import numpy as np
import tyro
from rich.console import Console

from experiments.command import make_console, run_command, say
from experiments.ground_truth import Case, Split, run_case
from experiments.run_directory import describe_environment, finish_run, open_run_directory
from experiments.settings import at_least
from jaxresnet import platform
from jaxresnet.errors import CheckFailed, UserError
from jaxresnet.report.document import Report, write_report
from jaxresnet.report.plots import Curve, plot_curves
from jaxresnet.report.tables import Table, number, percent
from jaxresnet.train.metrics import RunLog
from jaxresnet.train.progress import Progress
from jaxresnet.train.step import StepMetrics
from jaxresnet.train.timing import Place, StepWatcher

EXPERIMENT = "timing_check"
BOUND = 0.05
# Of a step: how far what passed may be from what was intended, as sleeps last longer on a busy
# machine. A loop that lost its overlap with the device would be further off.
STRAY_BOUND = 0.15
# Of the computation: errors of a stall that is shorter are taken relative to this.
_LEAST_STALL = 0.05

_KINDS = {
    "dispatched, in line": (True, False, False),
    "dispatched, ahead": (True, True, False),
    "dispatched, in line, --sync-each-step": (True, False, True),
    "run by the call, in line": (False, False, False),
    "run by the call, ahead": (False, True, False),
}
_COST_STEPS, _COST_ROUNDS = 2_000, 5


@dataclass(frozen=True)
class CheckSettings:
    """How long is checked, and where results go."""

    ratios: tuple[float, ...] = (0.2, 0.5, 0.9, 1.1, 2, 5)
    """A batch's delay over a step's duration."""
    step_seconds: float = 0.2
    """What a step takes."""
    steps: int = 10
    """Of each case, besides a first one."""
    out: Path = Path("runs") / EXPERIMENT
    """The run's directory."""
    fresh: bool = False
    """Delete what an earlier start left there first."""


@dataclass(frozen=True)
class Outcome:
    """A case, what was measured and what truly passed."""

    kind: str
    ratio: float
    case: Case
    steps: int
    measured: Split
    true: Split

    @property
    def errors(self) -> tuple[float, float]:
        """Of stall and computation, relative; of a stall shorter than a twentieth of the
        computation, to that twentieth.
        """
        least = _LEAST_STALL * self.true.compute
        return (
            abs(self.measured.stall - self.true.stall) / max(self.true.stall, least),
            abs(self.measured.compute - self.true.compute) / self.true.compute,
        )

    @property
    def stray(self) -> float:
        """How far a step's measured stall is from the intended one, as a share of the step."""
        measured = self.measured.stall / self.steps
        return abs(measured - self.case.expected_stall) / self.case.duration


def main(arguments: list[str]) -> None:
    """Parses the command line, checks, and reports.

    Raises:
      CheckFailed: a stall or a computation is further than 5% from what it was, or a stall is
        not what was intended.
    """
    settings = tyro.cli(
        CheckSettings, prog=f"python -m experiments.{EXPERIMENT}", description=__doc__,
        args=arguments, config=(tyro.conf.FlagCreatePairsOff,),
    )  # fmt: skip
    at_least("--steps", settings.steps, 1)
    if not settings.ratios or min(settings.ratios) <= 0 or settings.step_seconds <= 0:
        raise UserError("--ratios and --step-seconds must be above 0")
    console = make_console()
    identity = {"experiment": EXPERIMENT}
    environment = describe_environment()
    with open_run_directory(
        settings.out, identity, asdict(settings), environment, fresh=settings.fresh
    ):
        outcomes = []
        duration = settings.step_seconds
        for kind, (dispatched, ahead, sync) in _KINDS.items():
            for ratio in settings.ratios:
                case = Case(dispatched, ahead, ratio * duration, duration, sync)
                measured, true = run_case(case, settings.steps + 1)
                outcomes.append(Outcome(kind, ratio, case, settings.steps, measured, true))
            say(console, f"{kind}: checked")
        cost = instrument_cost()
        _report(settings, outcomes, cost, console)
    wrong = _names([outcome for outcome in outcomes if max(outcome.errors) > BOUND])
    strays = _names([outcome for outcome in outcomes if outcome.stray > STRAY_BOUND])
    if wrong:
        raise CheckFailed(f"further than {BOUND:.0%} from the truth: {wrong}")
    if strays:
        raise CheckFailed(
            f"the stall is further than {STRAY_BOUND:.0%} of a step from the intended one (is the "
            f"machine busy?): {strays}"
        )


def _names(outcomes: list[Outcome]) -> str:
    return "; ".join(f"{outcome.kind}, ratio {outcome.ratio:g}" for outcome in outcomes)


def instrument_cost() -> float:
    """Seconds that clock, watcher, log and progress add to a step that does nothing.

    The least of several rounds: what else the machine does is not theirs.
    """
    value = cast(jax.Array, np.float32(1))
    metrics = StepMetrics(cast(jax.Array, _Done()), value, value)
    bare, full = [], []
    for _ in range(_COST_ROUNDS):
        batches = itertools.repeat(())
        start = time.perf_counter()
        for _ in range(_COST_STEPS):
            next(batches)
        bare.append(time.perf_counter() - start)
        full.append(_instrumented(batches, metrics))
    return (min(full) - min(bare)) / _COST_STEPS


class _Done:
    """A loss that is there already."""

    def block_until_ready(self) -> None: ...

    def __float__(self) -> float:
        return 1.0


def _instrumented(batches: itertools.repeat, metrics: StepMetrics) -> float:
    """The seconds of a loop as Trainer's, around nothing."""
    progress = Progress(Console(file=io.StringIO()), 1, 1, _COST_STEPS, 1)
    with (
        tempfile.TemporaryDirectory() as directory,
        closing(RunLog(Path(directory), "no images", "here")) as log,
        progress,
        StepWatcher() as watcher,
    ):
        progress.begin_epoch("nothing", 0, 0)
        start = time.perf_counter()
        for step in range(_COST_STEPS):
            watcher.take_step(Place(step, 0, step, 1), batches, lambda _: metrics)
            records = watcher.completed()
            for record in records:
                log.add_step("nothing", record)
            progress.steps(records)
        return time.perf_counter() - start


def _report(
    settings: CheckSettings, outcomes: list[Outcome], cost: float, console: Console
) -> None:
    worst = max(max(outcome.errors) for outcome in outcomes)
    stray = max(outcome.stray for outcome in outcomes)
    directory = settings.out
    report = Report(
        "Is the clock right?",
        "A loader that makes a batch in a known time and a device that takes a known time for a "
        "step, in the loop's own clock and watcher. In line: a batch is made when it is asked for; "
        "ahead: while the device computes. Dispatched: the call returns at once, as on a GPU; else "
        f"the call runs the step, as on a CPU. {platform.machine()}.",
        [_table(settings, outcomes)],
        [_plot(directory, settings, outcomes)],
        asked="Are input stall and computation what they are said to be?",
        findings=[
            f"The largest error is {worst:.2%}; the bound is {BOUND:.0%}. No stall is further than "
            f"{stray:.2%} of a step from the intended one; the bound is {STRAY_BOUND:.0%}.",
            "Clock, watcher, log and "
            f"progress cost {1e6 * cost:.0f} microseconds a step: less than 1% of steps longer "
            f"than {1e5 * cost:.0f} ms.",
        ],
    )
    write_report(directory, report, console)
    summary = {
        "largest_error": worst,
        "largest_stray": stray,
        "bound": BOUND,
        "instrument_seconds_per_step": cost,
        "cases": [asdict(outcome) for outcome in outcomes],
    }
    finish_run(directory, summary)
    say(console, f"report: {directory / 'report.md'}")


def _table(settings: CheckSettings, outcomes: list[Outcome]) -> Table:
    def milliseconds(total: float) -> str:
        return number(1e3 * total / settings.steps, 2)

    rows = [
        [
            f"{outcome.kind}, {outcome.ratio:g}",
            milliseconds(settings.steps * outcome.case.expected_stall),
            milliseconds(outcome.true.stall),
            milliseconds(outcome.measured.stall),
            percent(outcome.errors[0], 2),
            milliseconds(outcome.true.compute),
            milliseconds(outcome.measured.compute),
            percent(outcome.errors[1], 2),
        ]
        for outcome in outcomes
    ]
    note = (
        "Milliseconds a step. True: by the loader's and the device's own times; intended: had each "
        "sleep lasted as long as it was told to. Errors in per cent of the true one; of a stall "
        "below a twentieth of the computation, of that twentieth."
    )
    columns = [
        "case, ratio of delay to step", "intended\nstall", "true\nstall", "measured\nstall",
        "error", "true\ncom-\nputation", "measured\ncom-\nputation", "error",
    ]  # fmt: skip
    return Table("Known times and measured ones", columns, rows, note)


def _plot(directory: Path, settings: CheckSettings, outcomes: list[Outcome]) -> str:
    name = "errors.png"
    curves = []
    for colour, kind in enumerate(_KINDS):
        chosen = [outcome for outcome in outcomes if outcome.kind == kind]
        errors = [100 * max(outcome.errors) for outcome in chosen]
        curves.append(Curve(kind, errors, colour, x=[outcome.ratio for outcome in chosen]))
    ends = [min(settings.ratios), max(settings.ratios)]
    curves.append(Curve("bound", [100 * BOUND] * 2, len(_KINDS), True, x=ends))
    plot_curves(
        directory / name,
        f"Stall and computation of a step of {1e3 * settings.step_seconds:g} ms",
        "batch's delay / step's duration",
        "larger error of the two (%)",
        curves,
        logarithmic=True,
    )
    return name


if __name__ == "__main__":
    run_command(main)
