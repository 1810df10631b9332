"""The same experiment as in PyTorch, proved step by step: each comparison and its bound."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar

from rich.console import Console

from experiments.checks.fidelity.parts import PARTS, Cases, Comparison, Measured, Size, load_part
from experiments.harness import run_directory
from experiments.harness.command import make_console, run_command, say
from experiments.harness.environment import describe_environment
from experiments.harness.images import load_images
from experiments.harness.settings import DirectoryOptions, parse_settings
from jaxresnet import platform
from jaxresnet.data.dataset import Dataset
from jaxresnet.data.sources import ImageOptions, SourceOptions
from jaxresnet.errors import CheckFailed, UserError
from jaxresnet.options import options_of, plural, unpublished
from jaxresnet.report.document import Report, write_report
from jaxresnet.report.tables import Column, Table, make_table
from jaxresnet.train.log import append_json_line, read_json_lines

EXPERIMENT = "fidelity"
_CLASSES = 10  # of the networks of both sides
_COLUMNS = [
    Column[Comparison]("what was compared", lambda row: row.what),
    Column[Comparison]("measured", lambda row: f"{row.value:.2g}"),
    Column[Comparison]("bound", lambda row: f"{row.relation} {row.bound:.3g}"),
    Column[Comparison]("holds", lambda row: "yes" if row.holds else "NO"),
]


@dataclass(frozen=True)
class FidelitySettings:
    """What is compared, on which images, and where results go."""

    source: SourceOptions = SourceOptions()
    size: Size = Size()
    output: DirectoryOptions = DirectoryOptions()
    quick: bool = unpublished(False, affects="nothing")
    """Change the defaults to thin networks, fewer of them, and built-in images."""
    QUICK: ClassVar[dict[str, Any]] = {
        "data": "synthetic",
        "networks": ("resnet18", "resnet50"),
        "width": 8,
        "train_images": 2_000,
        "seeds": 4,
    }


def main(arguments: list[str]) -> None:
    """Runs the cases that no earlier start measured, and reports.

    Raises:
      CheckFailed: a comparison does not hold; the report is written nevertheless.
      UserError: PyTorch is not installed, or the options, images or directory are not usable.
    """
    settings = parse_settings(FidelitySettings, f"checks.{EXPERIMENT}", __doc__, arguments)
    if find_spec("torch") is None:
        raise UserError(
            "this experiment compares with PyTorch, which is not installed: "
            "pip install torch (a CPU build will do)"
        )
    import torch

    console, size, output = make_console(), settings.size, settings.output
    run_directory.check_directory(output.out, EXPERIMENT)
    source = ImageOptions(**asdict(settings.source), train_images=size.train_images)
    dataset = load_images(source, console)
    if len(dataset.class_names) != _CLASSES:
        raise UserError(
            f"{dataset.location} has {len(dataset.class_names)} classes; this takes {_CLASSES}"
        )
    environment = describe_environment() | {
        "torch_threads": torch.get_num_threads(),
        "images": dataset.title,
        "data_location": dataset.location,
    }
    identity = {
        "experiment": EXPERIMENT,
        "images": dataset.title,
        "data fingerprint": dataset.fingerprint(),
        "PyTorch": environment["packages"]["torch"],
        "JAX": environment["packages"]["jax"],
        "device": environment["device"],
        "code": environment["git_revision"],
        **{o.flag: o.value for o in options_of(size) if o.declared.affects == "result"},
    }
    directory = output.out or run_directory.default_directory(EXPERIMENT, dataset.name, identity)
    with run_directory.open_run_directory(
        directory, identity, asdict(settings), environment, fresh=output.fresh
    ):
        say(console, f"{EXPERIMENT}: results in {directory}")
        cases = {name: load_part(name).cases(size, dataset) for name in PARTS}
        measured = _measure(cases, size.parts, directory / "cases.jsonl", console)
        failed = _report(directory, measured, size, dataset, environment, console)
    if failed:
        raise CheckFailed("beyond the bound: " + "; ".join(failed))


def _measure(
    cases: Mapping[str, Cases], wanted: Sequence[str], log: Path, console: Console
) -> dict[str, Measured]:
    """Measures the cases of the wanted parts that the log has not; returns all complete parts.

    log: a file of JSON lines, one for each finished case.
    """
    measured: dict[str, dict[str, Any]] = {part: {} for part in cases}
    for line in read_json_lines(log):
        measured[line["part"]][line["case"]] = line["measured"]
    for part, values in measured.items():
        for name, measure in cases[part].items():
            if part not in wanted or name in values:
                continue
            say(console, f"{part}: {name} …")
            values[name] = measure()
            append_json_line(log, {"part": part, "case": name, "measured": values[name]})
    return {part: measured[part] for part in cases if cases[part].keys() <= measured[part].keys()}


def _report(
    directory: Path,
    parts: Mapping[str, Measured],
    size: Size,
    dataset: Dataset,
    environment: Mapping[str, Any],
    console: Console,
) -> list[str]:
    """Writes report.md, summary.json and the plots; returns what does not hold.

    parts: by name, what those that are complete measured.
    """
    tables: list[Table] = []
    plots: list[str] = []
    comparisons: list[Comparison] = []
    images = f"{len(dataset.train):,} {dataset.title}"
    for name, measured in parts.items():
        part = load_part(name)
        rows = part.compare(measured)
        more_tables, more_plots = part.illustrate(directory, images, measured)
        tables += [make_table(PARTS[name], _COLUMNS, rows, part.note), *more_tables]
        plots += more_plots
        comparisons += rows
    failed = [comparison.what for comparison in comparisons if not comparison.holds]
    counts = {"held": len(comparisons) - len(failed), "compared": len(comparisons)}
    missing = ", ".join(name for name in PARTS if name not in parts)
    versions = {name: environment["packages"][name] for name in ("jax", "torch")}
    introduction = (
        f"{counts['held']} of {counts['compared']} comparisons hold"
        f"{f' (not run: {missing})' * bool(missing)}. Networks of width {size.width}, {images}; "
        f"{platform.machine()}, PyTorch {versions['torch']} with "
        f"{plural(environment['torch_threads'], 'thread')}."
    )
    title = "Fidelity: the same experiment as in PyTorch"
    write_report(directory, Report(title, introduction, tables, plots), console)
    run_directory.finish_run(directory, versions | counts)
    return failed


if __name__ == "__main__":
    run_command(main)
