"""Whether the clock is right: known delays and durations, and what the instruments cost."""

import io
import itertools
import tempfile
import time
import timeit
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from rich.console import Console

from experiments.checks.ground_truth import KINDS, Outcome, run_case
from experiments.harness.command import make_console, run_command, say
from experiments.harness.environment import describe_environment
from experiments.harness.run_directory import finish_run, open_run_directory
from experiments.harness.settings import DirectoryOptions, parse_settings
from jaxresnet import platform
from jaxresnet.errors import CheckFailed, UserError
from jaxresnet.options import options_of, unpublished
from jaxresnet.report.document import Report, write_report
from jaxresnet.report.plots import Curve, plot_curves
from jaxresnet.report.tables import Column, make_table
from jaxresnet.train.clock import StepWatcher
from jaxresnet.train.log import RunLog
from jaxresnet.train.progress import Progress

EXPERIMENT = "timing_check"
BOUND = 0.05
# Of a step: how far what passed may be from what was intended, as sleeps last longer on a busy
# machine. A loop that lost its overlap with the device would be further off.
STRAY_BOUND = 0.15
_COST_STEPS, _COST_ROUNDS = 2_000, 5
_INTRODUCTION = (
    "A loader that makes a batch in a known time and a device that takes a known time for a step, "
    "in the loop's own clock and watcher. In line: a batch is made when it is asked for; ahead: "
    "while the device computes. Dispatched: the call returns at once, as on a GPU; else the call "
    "runs the step, as on a CPU."
)
_NOTE = (
    "Milliseconds a step. True: by the loader's and the device's own times; intended: had each "
    "sleep lasted as long as it was told to. Errors in per cent of the true one; of a stall below "
    "a twentieth of the computation, of that twentieth."
)


@dataclass(frozen=True)
class CheckSettings:
    """How long is checked, and where results go."""

    ratios: tuple[float, ...] = unpublished((0.2, 0.5, 0.9, 1.1, 2, 5), affects="result", above=0)
    """A batch's delay over a step's duration."""
    step_seconds: float = unpublished(0.2, affects="result", above=0)
    """What a step takes."""
    steps: int = unpublished(10, affects="result", at_least=1)
    """Of each case, besides a first one."""
    output: DirectoryOptions = DirectoryOptions(out=Path("runs") / EXPERIMENT)


COLUMNS: list[Column[Outcome]] = [
    Column("case, ratio of delay to step", lambda o: f"{o.kind}, {o.ratio:g}"),
    Column("intended\nstall", lambda o: o.intended_stall, scale=1e3),
    Column("true\nstall", lambda o: o.true_stall, scale=1e3),
    Column("measured\nstall", lambda o: o.stall, scale=1e3),
    Column("error", lambda o: o.stall_error, scale=100),
    Column("true\ncom-\nputation", lambda o: o.true_compute, scale=1e3),
    Column("measured\ncom-\nputation", lambda o: o.compute, scale=1e3),
    Column("error", lambda o: o.compute_error, scale=100),
]


def main(arguments: list[str]) -> None:
    """Parses the command line, checks, and reports.

    Raises:
      CheckFailed: a stall or a computation is further than 5% from what it was, or a stall is
        not what was intended.
    """
    settings = parse_settings(CheckSettings, "checks.timing", __doc__, arguments)
    if not settings.ratios:
        raise UserError("--ratios needs at least one number")
    console, outcomes = make_console(), []
    identity, options = {"experiment": EXPERIMENT}, {o.name: o.value for o in options_of(settings)}
    environment = describe_environment()
    out = settings.output.out
    assert out is not None
    with open_run_directory(out, identity, options, environment, fresh=settings.output.fresh):
        for kind in KINDS:
            for ratio in settings.ratios:
                outcomes.append(run_case(kind, ratio, settings.step_seconds, settings.steps))
            say(console, f"{kind}: checked")
        _report(out, settings, outcomes, instrument_cost(), console)
    wrong, strays = (
        "; ".join(f"{o.kind}, ratio {o.ratio:g}" for o in outcomes if getattr(o, name) > bound)
        for name, bound in (("error", BOUND), ("stray", STRAY_BOUND))
    )
    if wrong:
        raise CheckFailed(f"further than {BOUND:.0%} from the truth: {wrong}")
    if strays:
        raise CheckFailed(
            f"the stall is further than {STRAY_BOUND:.0%} of a step from the intended one (is the "
            f"machine busy?): {strays}"
        )


def instrument_cost() -> float:
    """Seconds that clock, watcher, log and progress add to a step that does nothing.

    The least of several rounds: what else the machine does only adds.
    """
    metrics = {"loss": np.float32(1), "correct": np.int32(1), "finite": np.bool(True)}
    batches, seconds = itertools.repeat(()), []
    for _ in range(_COST_ROUNDS):
        progress = Progress(Console(file=io.StringIO()), 1, 1, _COST_STEPS, 1)
        with (
            tempfile.TemporaryDirectory() as directory,
            closing(RunLog(Path(directory), "no images", {})) as log,
            progress,
            StepWatcher() as watcher,
        ):
            progress.begin_epoch("nothing", 0, 0)
            start = time.perf_counter()
            for step in range(_COST_STEPS):
                position = {"step": step, "epoch": 0, "batch": step, "images": 1}
                watcher.take_step(position, batches, lambda _: metrics)
                records = watcher.completed()
                for record in records:
                    log.add("steps", "nothing", record)
                progress.steps(records)
            seconds.append(time.perf_counter() - start)
    loop = {"stmt": "next(batches)", "globals": {"batches": batches}}
    bare = timeit.repeat(**loop, number=_COST_STEPS, repeat=_COST_ROUNDS)
    return (min(seconds) - min(bare)) / _COST_STEPS


def _report(
    directory: Path, settings: CheckSettings, outcomes: list[Outcome], cost: float, console: Console
) -> None:
    worst = max(outcome.error for outcome in outcomes)
    stray = max(outcome.stray for outcome in outcomes)
    plot = "errors.png"
    ratios = settings.ratios
    curves = [
        Curve(kind, [100 * o.error for o in outcomes if o.kind == kind], colour, x=ratios)
        for colour, kind in enumerate(KINDS)
    ]
    ends = [min(ratios), max(ratios)]
    plot_curves(
        directory / plot,
        f"Stall and computation of a step of {1e3 * settings.step_seconds:g} ms",
        "batch's delay / step's duration",
        "larger error of the two (%)",
        [*curves, Curve("bound", [100 * BOUND] * 2, len(KINDS), True, x=ends)],
        logarithmic=True,
    )
    report = Report(
        "Is the clock right?",
        f"{_INTRODUCTION} {platform.machine()}.",
        [make_table("Known times and measured ones", COLUMNS, outcomes, _NOTE)],
        [plot],
        asked="Are input stall and computation what they are said to be?",
        findings=[
            f"The largest error is {worst:.2%}; the bound is {BOUND:.0%}. No stall is further than "
            f"{stray:.2%} of a step from the intended one; the bound is {STRAY_BOUND:.0%}.",
            f"Clock, watcher, log and progress cost {1e6 * cost:.0f} microseconds a step: less "
            f"than 1% of steps longer than {1e5 * cost:.0f} ms.",
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


if __name__ == "__main__":
    run_command(main)
