"""What a benchmark leaves behind: results.json, report.md and a plot."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from experiments.benchmark.contest import Contest
from experiments.benchmark.plot import plot_rates
from experiments.command import say
from experiments.run_directory import describe_environment, open_run_directory
from jaxresnet import platform
from jaxresnet.report.document import Report, write_report
from jaxresnet.report.tables import Table
from jaxresnet.train.metrics import write_json


@dataclass(frozen=True)
class Findings:
    """What a benchmark says about a contest.

    values: more for results.json. plot: the file's name.
    """

    title: str
    introduction: str
    tables: Sequence[Table]
    values: dict[str, Any]
    plot: str
    plot_title: str


def write_benchmark(
    directory: Path,
    experiment: str,
    settings: dict[str, Any],
    contest: Contest,
    findings: Findings,
    console: Console,
) -> None:
    """Replaces what an earlier benchmark left in the directory, and prints the tables.

    Raises:
      UserError: the directory holds something else, or cannot be written.
    """
    settings = json.loads(json.dumps(settings, default=str))  # paths as text
    environment = describe_environment()
    identity = {"experiment": experiment}
    with open_run_directory(directory, identity, settings, environment, fresh=True):
        content = {
            "experiment": experiment,
            "machine": platform.machine(),
            "settings": settings,
            **findings.values,
            "contestants": [asdict(result) for result in contest.results],
            "left_out": contest.left_out,
        }
        write_json(directory / "results.json", content)
        rates = {result.name: result.rates for result in contest.results}
        plot_rates(directory / findings.plot, findings.plot_title, rates)
        introduction = "\n\n".join([findings.introduction, *_left_out_words(contest)])
        report = Report(findings.title, introduction, findings.tables, [findings.plot])
        write_report(directory, report, console)
        say(console, f"report: {directory / 'report.md'}")


def _left_out_words(contest: Contest) -> list[str]:
    """A paragraph for each contestant that failed."""
    return [
        f"{name} is left out, since it failed: {reason.splitlines()[0]}"
        for name, reason in contest.left_out.items()
    ]
