"""One report of all experiments, in the order of the labs: report.md and report.html."""

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro
from rich.console import Console

from experiments.command import make_console, run_command, say
from experiments.run_directory import ENVIRONMENT, find_runs, finished_at
from jaxresnet.errors import UserError
from jaxresnet.report.document import REPORT, Report, read_report
from jaxresnet.report.html import to_html
from jaxresnet.report.tables import plural

EXPERIMENT = "report"
SECTIONS = (
    "c1_training", "c2_timing", "c3_workers", "c4_profiling", "c5_devices", "c6_optimizers",
    "c7_no_batch_norm", "q_parameters",
)  # fmt: skip
_TITLE = "The labs' ResNet-18 experiments again, in JAX"


@dataclass(frozen=True)
class ReportSettings:
    """What is gathered, and where it goes."""

    runs: Path = Path("runs")
    """Where runs are looked for, however deep: the newest finished one of each experiment."""
    out: Path = Path("runs") / EXPERIMENT
    """Where report.md, report.html and their plots go."""


def main(arguments: list[str]) -> None:
    """Parses the command line, gathers the runs, and writes the report."""
    settings = tyro.cli(
        ReportSettings, prog=f"python -m experiments.{EXPERIMENT}", description=__doc__,
        args=arguments,
    )  # fmt: skip
    write_full_report(settings.runs, settings.out)


def write_full_report(runs: Path, out: Path) -> None:
    """Raises UserError if no experiment has a finished run."""
    console = make_console()
    found = {
        name: newest for name in SECTIONS if (newest := _newest(find_runs(runs, name), console))
    }
    if not found:
        raise UserError(
            f"no finished run of {', '.join(SECTIONS)} below {runs}: run one of them, "
            "python -m experiments.all --quick for all, or say where they are with --runs"
        )
    out.mkdir(parents=True, exist_ok=True)
    sections = [_section(name, *newest, out) for name, newest in found.items()]
    missing = [name for name in SECTIONS if name not in found]
    parts = [f"# {_TITLE}", _introduction(missing), *sections]
    markdown = "\n\n".join(parts) + "\n"
    (out / REPORT).write_text(markdown, encoding="utf-8")
    (out / "report.html").write_text(to_html(markdown, _TITLE, out), encoding="utf-8")
    for name in missing:
        say(console, f"no finished run of {name}")
    say(console, f"report: {out / REPORT} and {out / 'report.html'}")


def _introduction(missing: list[str]) -> str:
    left_out = f" Not run yet: {', '.join(missing)}." if missing else ""
    return (
        "Three course reports on high-performance machine learning (lab-a, lab-b, lab-c) trained "
        "ResNet-18 on CIFAR-10 in PyTorch and published what they measured. Here each experiment "
        "is run again in JAX, and its figures stand beside theirs: what was asked, what was found, "
        "a table, plots, and with which images and settings, on what machine, it ran."
        f"{left_out}"
    )


def _newest(runs: list[Path], console: Console) -> tuple[Path, Report] | None:
    """The first of the runs whose report can be read, with it."""
    for run in runs:
        try:
            return run, read_report(run)
        except (OSError, ValueError, TypeError, KeyError) as error:
            say(console, f"{run} is passed over, since its report cannot be read: {error}")
    return None


def _section(name: str, run: Path, report: Report, out: Path) -> str:
    plots = [_copy(run / plot, out, f"{name}_{plot}") for plot in report.plots]
    parts = [f"## {report.title}", f"*{report.asked}*", " ".join(report.findings)]
    parts += [table.to_markdown() for table in report.tables]
    parts += [f"![{Path(plot).stem}]({plot})" for plot in plots]
    parts += [report.introduction, _provenance(run, report)]
    return "\n\n".join(part for part in parts if part)


def _copy(source: Path, out: Path, name: str) -> str:
    shutil.copyfile(source, out / name)
    return name


def _provenance(run: Path, report: Report) -> str:
    """Where and when it was run, in which versions."""
    environment: dict[str, Any] = json.loads((run / ENVIRONMENT).read_text(encoding="utf-8"))
    packages = environment["packages"]
    versions = ", ".join(f"{name} {packages[name]}" for name in ("jax", "flax", "optax"))
    details = f"; {plural(len(report.details), 'more table')} there" if report.details else ""
    device = ""  # where each training has its own, the table has them
    if "device" in environment:
        threads = f"{environment['cpu_threads']} threads"
        device = f" {environment['processor']}, {threads}, device {environment['device']},"
    return (
        f"Run `{os.path.relpath(run, Path.cwd())}`, finished {finished_at(run):%Y-%m-%d}:{device} "
        f"Python {environment['python']}, {versions}, revision "
        f"{environment['git_revision'] or 'unknown'}{details}."
    )


if __name__ == "__main__":
    run_command(main, computes=False)
