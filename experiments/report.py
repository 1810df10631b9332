"""One report of all experiments, in the order of the labs: report.md and report.html."""

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from rich.console import Console

from experiments.harness.catalogue import list_published_experiments
from experiments.harness.command import make_console, run_command, say
from experiments.harness.run_directory import find_runs, finished_at, read_environment
from jaxresnet.errors import UserError
from jaxresnet.options import option, parse_options, plural
from jaxresnet.report.document import REPORT, Report, read_report
from jaxresnet.report.html import to_html
from jaxresnet.report.tables import Table

EXPERIMENT = "report"

_TITLE = "The labs' ResNet-18 experiments again, in JAX"
_INTRODUCTION = (
    "Three course reports on high-performance machine learning (lab-a, lab-b, lab-c) trained "
    "ResNet-18 on CIFAR-10 in PyTorch and published what they measured. Here each experiment "
    "is run again in JAX, and its figures stand beside theirs: what was asked, what was found, "
    "a table, plots, and with which images and settings, on what machine, it ran."
)


@dataclass(frozen=True)
class ReportSettings:
    """What is gathered, and where it goes."""

    runs: Path = option(Path("runs"), affects="result", published=False, says="")
    """Where runs are looked for, however deep: the newest finished one of each experiment."""
    out: Path = option(Path("runs") / EXPERIMENT, affects="nothing", published=False, says="")
    """Where report.md, report.html and their plots go."""


SETTINGS = ReportSettings


class _Section(NamedTuple):
    """anchor: what links to the section name."""

    experiment: str
    run: Path
    report: Report

    @property
    def anchor(self) -> str:
        return self.experiment.partition("_")[0]


def main(arguments: list[str]) -> None:
    """Parses the command line, gathers the runs, and writes the report."""
    command = f"python -m experiments.{EXPERIMENT}"
    settings = parse_options(SETTINGS, command, __doc__ or "", arguments)
    write_full_report(settings.runs, settings.out)


def write_full_report(runs: Path, out: Path) -> None:
    """Raises UserError if no experiment has a finished run."""
    console = make_console()
    names = list_published_experiments()
    sections = [
        _Section(name, *newest)
        for name in names
        if (newest := _newest(find_runs(runs, name), console))
    ]
    if not sections:
        raise UserError(
            f"no finished run of {', '.join(names)} below {runs}: run one of them, "
            "python -m experiments.all --quick for all, or say where they are with --runs"
        )
    missing = [name for name in names if name not in {s.experiment for s in sections}]
    left_out = f" Not run yet: {', '.join(missing)}." if missing else ""
    out.mkdir(parents=True, exist_ok=True)
    parts = [f"# {_TITLE}", _INTRODUCTION + left_out, _overview(sections).to_markdown()]
    parts += [_section(section, out) for section in sections]
    markdown = "\n\n".join(parts) + "\n"
    (out / REPORT).write_text(markdown, encoding="utf-8")
    (out / "report.html").write_text(to_html(markdown, _TITLE, out), encoding="utf-8")
    for name in missing:
        say(console, f"no finished run of {name}")
    say(console, f"report: {out / REPORT} and {out / 'report.html'}")


def _newest(runs: list[Path], console: Console) -> tuple[Path, Report] | None:
    """The first of the runs whose report can be read, with it."""
    for run in runs:
        try:
            return run, read_report(run)
        except (OSError, ValueError, TypeError, KeyError) as error:
            say(console, f"{run} is passed over, since its report cannot be read: {error}")
    return None


def _overview(sections: list[_Section]) -> Table:
    """Every claim with its verdict, linked to its section."""
    rows = [
        [f"[{s.anchor.upper()}](#{s.anchor})", claim.published, claim.here, claim.verdict]
        for s in sections
        for claim in s.report.claims
    ]
    columns = ["", "the labs found", "this run found", "do they agree?"]
    return Table("At a glance", columns, rows)


def _section(section: _Section, out: Path) -> str:
    report = section.report
    plots = [_copy(section.run / p, out, f"{section.experiment}_{p}") for p in report.plots]
    parts = [f'<a id="{section.anchor}"></a>', f"## {report.title}", f"*{report.asked}*"]
    parts += [" ".join(report.findings)]
    parts += [table.to_markdown() for table in report.tables]
    parts += [f"![{Path(plot).stem}]({plot})" for plot in plots]
    parts += [report.introduction, _provenance(section.run, report)]
    return "\n\n".join(part for part in parts if part)


def _copy(source: Path, out: Path, name: str) -> str:
    shutil.copyfile(source, out / name)
    return name


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
        f"Run `{os.path.relpath(run, Path.cwd())}`, finished {finished_at(run):%Y-%m-%d}:{device} "
        f"Python {environment['python']}, {versions}, revision "
        f"{environment['git_revision'] or 'unknown'}{details}.{later}"
    )


if __name__ == "__main__":
    run_command(main, computes=False)
