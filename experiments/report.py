"""One report of all experiments, a part for each publisher: report.md and report.html."""

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from experiments.harness.catalogue import (
    ORIGINS,
    Origin,
    list_published_experiments,
    origin_of,
)
from experiments.harness.command import make_console, run_command, say
from experiments.harness.run_directory import find_runs, finished_at, read_environment
from experiments.harness.settings import parse_settings
from jaxresnet.errors import UserError
from jaxresnet.options import plural, unpublished
from jaxresnet.report.document import REPORT, Claim, Report, read_report
from jaxresnet.report.html import to_html
from jaxresnet.report.tables import Table

EXPERIMENT = "report"

_TITLE = "Published ResNet experiments again, in JAX"
_INTRODUCTION = (
    "What three course reports and a talk published of training ResNets in PyTorch, each "
    "experiment run again in JAX, its figures beside theirs: what was asked, what was found, a "
    "table, plots, and with which images and settings, on what machine, it ran."
)


@dataclass(frozen=True)
class ReportSettings:
    """What is gathered, and where it goes."""

    runs: Path = unpublished(Path("runs"), affects="result")
    """Where runs are looked for, however deep: the newest finished one of each experiment."""
    out: Path = unpublished(Path("runs") / EXPERIMENT, affects="nothing")
    """Where report.md, report.html and their plots go."""


SETTINGS = ReportSettings


def main(arguments: list[str]) -> None:
    """Parses the command line, gathers the runs, and writes the report."""
    settings = parse_settings(SETTINGS, EXPERIMENT, __doc__, arguments)
    write_full_report(settings.runs, settings.out)


def write_full_report(runs: Path, out: Path) -> None:
    """Raises UserError if no experiment has a finished run."""
    console, names = make_console(), list_published_experiments()
    newest = {name: run for name in names if (run := _newest(runs, name, console))}
    if not newest:
        raise UserError(
            f"no finished run of {', '.join(names)} below {runs}: run one of them, "
            "python -m experiments.all --quick for all, or say where they are with --runs"
        )
    missing = [name for name in names if name not in newest]
    left_out = f" Not run yet: {', '.join(missing)}." if missing else ""
    out.mkdir(parents=True, exist_ok=True)
    parts = [
        _part(origin, {name: run for name, run in newest.items() if origin_of(name) == key}, out)
        for key, origin in ORIGINS.items()
    ]
    written = [part for part in parts if part]
    markdown = "\n\n".join([f"# {_TITLE}", _INTRODUCTION + left_out, *written]) + "\n"
    (out / REPORT).write_text(markdown, encoding="utf-8")
    (out / "report.html").write_text(to_html(markdown, _TITLE, out), encoding="utf-8")
    for name in missing:
        say(console, f"no finished run of {name}")
    say(console, f"report: {out / REPORT} and {out / 'report.html'}")


def _newest(runs: Path, experiment: str, console: Console) -> tuple[Path, Report] | None:
    """The newest of the experiment's runs whose report can be read, with it."""
    for run in find_runs(runs, experiment):
        try:
            return run, read_report(run)
        except (OSError, ValueError, TypeError, KeyError) as error:
            say(console, f"{run} is passed over, since its report cannot be read: {error}")
    return None


def _part(origin: Origin, runs: dict[str, tuple[Path, Report]], out: Path) -> str:
    """What one publisher's experiments found, at a glance and one by one; empty without runs."""
    if not runs:
        return ""
    rows = [
        [f"[{_anchor(name).upper()}](#{_anchor(name)})", claim.published, claim.here, claim.verdict]
        for name, (_, report) in runs.items()
        for claim in report.claims or [Claim("no figure of this training", "-", "cannot say")]
    ]
    columns = ["", f"{origin.publisher} found", "this run found", "do they agree?"]
    overview = Table(f"{origin.title} at a glance", columns, rows).to_markdown()
    sections = [_section(name, run, report, out) for name, (run, report) in runs.items()]
    return "\n\n".join([f"# {origin.title}", origin.introduction, overview, *sections])


def _anchor(experiment: str) -> str:
    """What links to an experiment's section name."""
    return experiment.partition("_")[0]


def _section(experiment: str, run: Path, report: Report, out: Path) -> str:
    """An experiment's part of the report; copies its plots there."""
    plots = {f"{experiment}_{plot}": run / plot for plot in report.plots}
    for name, plot in plots.items():
        shutil.copyfile(plot, out / name)
    parts = [
        f'<a id="{_anchor(experiment)}"></a>',
        f"## {report.title}",
        f"*{report.asked}*",
        " ".join(report.findings),
        *(table.to_markdown() for table in report.tables),
        *(f"![{Path(name).stem}]({name})" for name in plots),
        report.introduction,
        _provenance(run, report),
    ]
    return "\n\n".join(part for part in parts if part)


def _provenance(run: Path, report: Report) -> str:
    """Where and when it was run, in which versions."""
    environment = read_environment(run)
    packages = environment["packages"]
    versions = ", ".join(f"{name} {packages[name]}" for name in ("jax", "flax", "optax"))
    details = f"; {plural(len(report.details), 'more table')} there" if report.details else ""
    device = ""  # where each training has its own, the table has them
    if "device" in environment:
        threads = plural(environment["cpu_threads"], "thread")
        device = f" {environment['processor']}, {threads}, device {environment['device']},"
    changed = sorted({name for start in environment["later_starts"] for name in start})
    later = f" A later start changed: {', '.join(changed)}." if changed else ""
    return (
        f"Run `{os.path.relpath(run, Path.cwd())}`, finished {finished_at(run)[:10]}:{device} "
        f"Python {environment['python']}, {versions}, revision "
        f"{environment['git_revision'] or 'unknown'}{details}.{later}"
    )


if __name__ == "__main__":
    run_command(main, computes=False)
