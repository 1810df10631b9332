"""Runs the cases that no earlier start measured, keeps what each measured, and reports."""

from collections.abc import Callable, Mapping
from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from typing import Any

import jax
import torch
from rich.console import Console

from experiments.checks.fidelity.comparison import Case, Comparison, Measured, Part
from experiments.checks.fidelity.options import PARTS, FidelityOptions
from experiments.harness.command import make_console, say
from experiments.harness.environment import describe_environment
from experiments.harness.images import load_images
from experiments.harness.run_directory import (
    check_directory,
    default_directory,
    finish_run,
    open_run_directory,
)
from jaxresnet import platform
from jaxresnet.data.sources import ImageOptions
from jaxresnet.errors import CheckFailed, UserError
from jaxresnet.options import options_of
from jaxresnet.report.document import Report, write_report
from jaxresnet.report.tables import Column, Table, make_table
from jaxresnet.train.log import append_json_line, read_json_lines

_CLASSES = 10  # of the networks of both sides
_COLUMNS = [
    Column[Comparison]("what was compared", lambda row: row.what),
    Column[Comparison]("measured", lambda row: f"{row.value:.2g}"),
    Column[Comparison]("bound", lambda row: f"{row.relation} {row.bound:.3g}"),
    Column[Comparison]("holds", lambda row: "yes" if row.holds else "NO"),
]


def load_part(name: str) -> Part:
    """One of options.PARTS."""
    return import_module(f"{__package__}.{name}").PART


def run_fidelity(experiment: str, options: FidelityOptions) -> None:
    """Runs the parts asked for; prints and writes the report.

    Raises:
      CheckFailed: a comparison does not hold; the report is written nevertheless.
      UserError: the images or the output directory are not usable.
    """
    console = make_console()
    compare, output = options.compare, options.output
    if output.out is not None:
        check_directory(output.out, experiment)
    source = ImageOptions(**asdict(options.source), train_images=compare.train_images)
    dataset = load_images(source, console)
    if len(dataset.class_names) != _CLASSES:
        raise UserError(
            f"{dataset.location} has {len(dataset.class_names)} classes; this takes {_CLASSES}"
        )
    environment = {
        **describe_environment(),
        "torch_threads": torch.get_num_threads(),
        "images": dataset.title,
        "data_location": dataset.location,
    }
    identity = {
        "experiment": experiment,
        "images": dataset.title,
        "data fingerprint": dataset.fingerprint(),
        "PyTorch": torch.__version__,
        "JAX": jax.__version__,
        "device": jax.devices()[0].device_kind,
        "code": environment["git_revision"],
        **{o.flag: o.value for o in options_of(compare) if o.declared.affects == "result"},
    }
    directory = output.out or default_directory(experiment, dataset.name, identity)
    with open_run_directory(directory, identity, asdict(options), environment, fresh=output.fresh):
        say(console, f"{experiment}: results in {directory}")
        parts = {name: load_part(name) for name in PARTS}
        cases = {name: part.cases(compare, dataset) for name, part in parts.items()}
        wanted = {name: cases[name] for name in PARTS if name in compare.parts}
        measured = measure(wanted, directory / "cases.jsonl", lambda line: say(console, line))
        complete = {
            name: (part, measured[name])
            for name, part in parts.items()
            if cases[name].keys() <= measured.get(name, {}).keys()
        }
        images = f"{len(dataset.train):,} {dataset.title}"
        comparisons = _report(directory, complete, images, compare.width, console)
    failed = [comparison.what for comparison in comparisons if not comparison.holds]
    if failed:
        raise CheckFailed("beyond the bound: " + "; ".join(failed))


def measure(
    parts: Mapping[str, Mapping[str, Case]], log: Path, tell: Callable[[str], None]
) -> dict[str, dict[str, Any]]:
    """Measures the cases, by part and name, that the log has not; returns all that it has then.

    log: a file of JSON lines, one for each finished case.
    """
    measured: dict[str, dict[str, Any]] = {}
    for line in read_json_lines(log):
        measured.setdefault(line["part"], {})[line["case"]] = line["measured"]
    for part, cases in parts.items():
        values = measured.setdefault(part, {})
        for name in [name for name in cases if name not in values]:
            tell(f"{part}: {name} …")
            values[name] = cases[name]()
            append_json_line(log, {"part": part, "case": name, "measured": values[name]})
    return measured


def _report(
    directory: Path,
    parts: Mapping[str, tuple[Part, Measured]],
    images: str,
    width: int,
    console: Console,
) -> list[Comparison]:
    """Writes report.md, summary.json and the plots; returns all comparisons.

    parts: by name, those that are complete, with what they measured.
    """
    tables: list[Table] = []
    plots: list[str] = []
    comparisons: list[Comparison] = []
    for name, (part, measured) in parts.items():
        rows = part.compare(measured)
        more_tables, more_plots = part.illustrate(directory, images, measured)
        tables += [make_table(PARTS[name], _COLUMNS, rows, part.note), *more_tables]
        plots += more_plots
        comparisons += rows
    held = sum(comparison.holds for comparison in comparisons)
    missing = ", ".join(name for name in PARTS if name not in parts)
    introduction = (
        f"{held} of {len(comparisons)} comparisons hold{f' (not run: {missing})' * bool(missing)}. "
        f"Networks of width {width}, {images}; {platform.machine()}, PyTorch {torch.__version__} "
        f"with {torch.get_num_threads()} threads."
    )
    title = "Fidelity: the same experiment as in PyTorch"
    write_report(directory, Report(title, introduction, tables, plots), console)
    versions = {"jax": jax.__version__, "torch": torch.__version__}
    finish_run(directory, {**versions, "held": held, "compared": len(comparisons)})
    return comparisons
