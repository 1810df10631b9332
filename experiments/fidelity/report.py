"""The report of the proof: tables of what was compared, and plots."""

import json
from pathlib import Path

import jax
import torch
from rich.console import Console

from experiments.command import say
from experiments.fidelity import distribution, training
from experiments.fidelity.comparison import Comparison
from experiments.fidelity.networks import Conditioning
from experiments.fidelity.settings import CompareSettings
from experiments.run_directory import finish_run
from jaxresnet import platform
from jaxresnet.data.dataset import Dataset
from jaxresnet.optim import get_optimizer
from jaxresnet.report.document import Report, write_report
from jaxresnet.report.plots import Curve, plot_curves, plot_differences
from jaxresnet.report.tables import Table
from jaxresnet.train.metrics import read_json_lines

_HEADINGS = {
    "layers": "Layers, with the same weights and inputs",
    "networks": "Whole networks, with PyTorch's weights",
    "optimizers": "Optimizers, 200 steps from the same parameters",
    "data": "Images",
    "initialisation": "Initial weights of ResNet-18",
    "training": "Training ResNet-18, with the same weights and batches",
    "distribution": "Training ResNet-18 for one epoch, each side with its own draws",
}
_NOTES = {
    "layers": "Differences are the largest over the largest magnitude of the tensor.",
    "networks": (
        "Logits and statistics: the largest difference over the largest magnitude; gradients: "
        "the norm of the difference over the norm, of the worst parameter. Evaluation and "
        "training mode, two random images. A rectifier whose input is within rounding of zero "
        "moves float32 gradients by a thousandth, whoever computes them; so those are "
        "compared on the first images that keep every rectifier's input further from zero than "
        "four times PyTorch's own rounding error there (their number is given if they are not "
        "the first), and on a thinner network where a wide one has no such images. In float64 "
        "no input is in doubt."
    ),
    "optimizers": "The largest difference over the largest magnitude, of any step.",
    "distribution": (
        "The bound is PyTorch's spread between seeds, largest minus smallest. Published protocol: "
        "SGD, rate 0.1, momentum 0.9, weight decay 0.0005."
    ),
}


def write_fidelity_report(
    directory: Path, compare: CompareSettings, dataset: Dataset, console: Console
) -> list[Comparison]:
    """Writes report.md, summary.json and the plots; returns all comparisons."""
    found = {
        line["part"]: [Comparison(**values) for values in line["comparisons"]]
        for line in read_json_lines(directory / "comparisons.jsonl")
    }
    tables, plots = [], []
    for part, heading in _HEADINGS.items():
        if part not in found:
            continue
        tables.append(_comparison_table(heading, found[part], _NOTES.get(part, "")))
        if part == "networks":
            tables.append(_conditioning_table(directory))
        if part == "training":
            plots += [_plot_training(directory, dataset, dtype) for dtype in training.BOUNDS]
        if part == "distribution":
            runs = [
                distribution.Run(**line)
                for line in read_json_lines(directory / "distribution.jsonl")
            ]
            tables.append(distribution.run_table(runs, _images(dataset)))
            plots.append(_plot_distribution(directory, dataset, runs))
    comparisons = [comparison for part in found.values() for comparison in part]
    held = sum(comparison.holds for comparison in comparisons)
    missing = [part for part in _HEADINGS if part not in found]
    left_out = f" (not run: {', '.join(missing)})" if missing else ""
    introduction = (
        f"{held} of {len(comparisons)} comparisons hold{left_out}. Networks of width "
        f"{compare.width}, {_images(dataset)}; {platform.machine()}, PyTorch "
        f"{torch.__version__} with {torch.get_num_threads()} threads."
    )
    title = "Fidelity: the same experiment as in PyTorch"
    write_report(directory, Report(title, introduction, tables, plots), console)
    finish_run(
        directory,
        {
            "jax": jax.__version__,
            "torch": torch.__version__,
            "held": held,
            "compared": len(comparisons),
        },
    )
    say(console, f"report: {directory / 'report.md'}")
    return comparisons


def _images(dataset: Dataset) -> str:
    words = "synthetic images" if dataset.synthetic else "CIFAR-10 images"
    return f"{len(dataset.train):,} {words}"


def _comparison_table(heading: str, comparisons: list[Comparison], note: str) -> Table:
    rows = [
        [comparison.what, f"{comparison.largest:.2g}", f"{comparison.bound:.3g}", verdict]
        for comparison in comparisons
        for verdict in ["yes" if comparison.holds else "NO"]
    ]
    return Table(heading, ["what was compared", "largest", "bound", "holds"], rows, note)


def _conditioning_table(directory: Path) -> Table:
    text = (directory / "conditioning.json").read_text(encoding="utf-8")
    lines = [Conditioning(**line) for line in json.loads(text)]
    rows = [
        [
            line.what,
            *(
                f"{value:.1e}"
                for value in (line.torch_to_float64, line.here_to_float64, line.here_to_torch)
            ),
        ]
        for line in lines
    ]
    columns = ["network", "PyTorch to\nfloat64", "here to\nfloat64", "here to\nPyTorch"]
    note = (
        "The worst parameter's gradient in training mode with PyTorch's own initial weights: the "
        "norm of the difference over the norm, float32 against PyTorch in float64, and between "
        "the two. Two results in float32 may differ by the sum of their distances to the exact one."
    )
    return Table("What float32 cannot decide", columns, rows, note)


def _plot_training(directory: Path, dataset: Dataset, dtype: str) -> str:
    lines = read_json_lines(directory / "training.jsonl")
    curves = [training.Curves(**line) for line in lines if line["dtype"] == dtype]
    name = f"training_{dtype}.png"
    plot_differences(
        directory / name,
        f"ResNet-18 on {dataset.words}, {dtype}: the same weights and batches",
        "step",
        "training loss",
        {
            get_optimizer(pair.optimizer).label: (pair.here, pair.pytorch, pair.differences)
            for pair in curves
        },
        ("here", "PyTorch"),
        training.BOUNDS[dtype],
    )
    return name


def _plot_distribution(directory: Path, dataset: Dataset, runs: list[distribution.Run]) -> str:
    name = "distribution.png"
    curves = [
        Curve(
            f"{side}, seed {run.seed}",
            run.losses,
            colour=colour,
            dashed=colour > 0,
        )
        for colour, side in enumerate(distribution.SIDES)
        for run in runs
        if run.side == side
    ]
    title = f"ResNet-18, SGD, one epoch of {_images(dataset)}"
    plot_curves(directory / name, title, "step", "training loss", curves)
    return name
