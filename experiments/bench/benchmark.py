"""What a benchmark is, and the one way in which they are run and reported."""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console

from experiments.bench.contest import (
    Contest,
    Contestant,
    Result,
    find_torch,
    run_contest,
    spread,
)
from experiments.harness.command import say
from experiments.harness.environment import describe_environment
from experiments.harness.run_directory import (
    check_directory,
    default_directory,
    open_run_directory,
)
from jaxresnet import platform
from jaxresnet.options import changed_options, option, options_of
from jaxresnet.report.document import Report, write_report
from jaxresnet.report.plots import plot_rates
from jaxresnet.report.tables import Column, make_table
from jaxresnet.train.log import write_json

_TURNS = "Each contestant runs in a process of its own, and they take turns."
_NO_TORCH = "PyTorch is not installed here; --torch-python names an interpreter that has it."
_NOTE = (
    "Medians over the rounds, with the least and the greatest. Relative speed: images/s over those "
    "of {} in the same round; above 1 is faster. {}"
)


@dataclass(frozen=True)
class ContestOptions:
    """How often contestants are asked, and where results go."""

    rounds: int = option(7, affects="time", published=False, says="", at_least=1)
    """How often each contestant is asked, one after the other."""
    torch_python: Path | None = option(None, affects="nothing", published=False, says="")
    """A Python interpreter that can import torch. None: this one."""
    out: Path | None = option(None, affects="nothing", published=False, says="")
    """Where results go. None: runs/<benchmark>/<name made from the options>."""


class Findings(NamedTuple):
    """What a benchmark says about a contest.

    Attributes:
      columns: of the table, after the contestant's name.
      note: below the table, after what is said of every benchmark.
      remark: at the end of the introduction.
      values: more for results.json.
    """

    columns: Sequence[Column[Result]]
    note: str
    remark: str
    values: dict[str, Any]


@dataclass(frozen=True)
class Benchmark:
    """What is timed, and how it is described.

    Attributes:
      experiment: "bench_step", say; "step" then names the plot and the times in results.json.
      variant: short enough for a file name.
      title, subject: "One training step", and of what.
      about: sentences on what is timed.
      software: how a contestant's answer when it was ready becomes a part of the introduction.
      count: repetitions of each contestant in a round.
      identity: what the results depend on besides the options.
    """

    experiment: str
    variant: str
    title: str
    subject: str
    about: str
    software: str
    contestants: Sequence[Contestant]
    count: int
    report: Callable[[Contest], Findings]
    identity: dict[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.experiment.removeprefix("bench_")


def run_benchmark(benchmark: Benchmark, settings: ContestOptions, console: Console) -> None:
    """Times the contestants in turn; replaces an earlier report, and prints the new one.

    Raises:
      UserError: the directory is not usable, or --torch-python has no PyTorch.
      CheckFailed: one of this project's contestants failed.
    """
    experiment = benchmark.experiment
    changed = changed_options(settings, type(settings)(), ("result", "time"))
    identity = {**changed, **benchmark.identity}
    directory = settings.out or default_directory(experiment, benchmark.variant, identity)
    check_directory(directory, experiment)
    torch_python = find_torch(settings.torch_python)
    say(console, f"{experiment}: {benchmark.subject}; results in {directory}")
    contest = run_contest(
        [each for each in benchmark.contestants if torch_python or not each.pytorch],
        settings.rounds,
        benchmark.count,
        torch_python,
        partial(say, console),
    )
    options = {each.name: each.value for each in options_of(settings)}
    options = json.loads(json.dumps(options, default=str))  # paths as text
    kept = {"experiment": experiment}
    with open_run_directory(directory, kept, options, describe_environment(), fresh=True):
        _write(benchmark, contest, directory, {**kept, "settings": options}, console)


def _write(
    benchmark: Benchmark, contest: Contest, directory: Path, run: dict[str, Any], console: Console
) -> None:
    findings = benchmark.report(contest)
    summary = [
        {
            "name": result.name,
            f"{benchmark.name}_seconds": spread(result.seconds),
            "images_per_second": spread(result.rates),
            "relative_speed": spread(contest.relative_speed(result)),
        }
        for result in contest.results
    ]
    content = {
        **run,
        "machine": platform.machine(),
        **findings.values,
        "compared_with": contest.reference,
        "summary": summary,
        "contestants": [asdict(result) for result in contest.results],
        "left_out": contest.left_out,
    }
    write_json(directory / "results.json", content)
    title, plot = f"{benchmark.title}: {benchmark.subject}", f"{benchmark.name}.png"
    plot_rates(directory / plot, title, {result.name: result.rates for result in contest.results})
    columns = [Column[Result]("contestant", lambda result: result.name), *findings.columns]
    note = _NOTE.format(contest.reference, findings.note)
    table = make_table(title, columns, contest.results, note)
    introduction = _introduction(benchmark, contest, findings.remark)
    write_report(directory, Report(title, introduction, [table], [plot]), console)


def _introduction(benchmark: Benchmark, contest: Contest, remark: str) -> str:
    versions = [benchmark.software.format_map(result.start) for result in contest.results]
    software = f"{'; '.join(dict.fromkeys(versions))}."
    missing = "" if contest.has_pytorch or contest.left_out else _NO_TORCH
    sentences = [f"{platform.machine()}.", benchmark.about, _TURNS, software, remark, missing]
    failures = [
        f"{name} is left out, since it failed: {reason.splitlines()[0]}"
        for name, reason in contest.left_out.items()
    ]
    return "\n\n".join([" ".join(filter(None, sentences)), *failures])
