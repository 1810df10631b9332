"""Runs the parts of the proof, keeps what each found, and reports."""

from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import jax
import torch
from rich.console import Console

from experiments.command import make_console, say
from experiments.fidelity import distribution, networks, training
from experiments.fidelity.comparison import Comparison
from experiments.fidelity.data import compare_data
from experiments.fidelity.initialisation import compare_initialisation
from experiments.fidelity.layers import compare_layers
from experiments.fidelity.optimizers import compare_optimizers
from experiments.fidelity.passes import Architecture
from experiments.fidelity.report import write_fidelity_report
from experiments.fidelity.settings import CompareSettings, FidelitySettings, Part
from experiments.images import load_images
from experiments.run_directory import (
    check_directory,
    default_directory,
    describe_environment,
    open_run_directory,
)
from jaxresnet.data.dataset import Dataset
from jaxresnet.errors import CheckFailed, UserError
from jaxresnet.train.metrics import append_json_line, read_json_lines, write_json

_EXPERIMENT = "fidelity"
CLASSES = 10  # what the networks of both sides have
# In float64 a step takes fifty times as long here: a thinner network, fewer images.
_FLOAT64_WIDTH, _FLOAT64_BATCH = 8, 32
_CONDITIONING = {"resnet18": 16, "resnet50": 4, "resnet152": 2}  # networks and images


def run_fidelity(settings: FidelitySettings) -> None:
    """Runs the parts that no earlier start finished; prints and writes the report.

    Raises:
      CheckFailed: a comparison is beyond its bound; the report is written nevertheless.
      UserError: the images or the output directory are not usable.
    """
    console = make_console()
    if settings.output.out is not None:
        check_directory(settings.output.out, _EXPERIMENT)
    compare = settings.compare
    dataset = load_images(settings.data, compare.train_images, None, console)
    if len(dataset.class_names) != CLASSES:
        raise UserError(
            f"{dataset.location} has {len(dataset.class_names)} classes; this takes {CLASSES}"
        )
    environment = {
        **describe_environment(),
        "torch": torch.__version__,
        "torch_threads": torch.get_num_threads(),
        "images": dataset.words,
        "data_location": dataset.location,
    }
    identity = {
        "experiment": _EXPERIMENT,
        "images": dataset.words,
        "data fingerprint": dataset.fingerprint(),
        "PyTorch": torch.__version__,
        "JAX": jax.__version__,
        "device": jax.devices()[0].device_kind,
        "code": environment["git_revision"],
        **{f"--{name}": value for name, value in asdict(replace(compare, parts=())).items()},
    }
    directory = settings.output.out or default_directory(_EXPERIMENT, dataset.name, identity)
    with open_run_directory(
        directory, identity, asdict(settings), environment, fresh=settings.output.fresh
    ):
        say(console, f"{_EXPERIMENT}: results in {directory}")
        _run_parts(compare, dataset, directory, console)
        comparisons = write_fidelity_report(directory, compare, dataset, console)
    failed = [comparison.what for comparison in comparisons if not comparison.holds]
    if failed:
        raise CheckFailed("beyond the bound: " + "; ".join(failed))


def _run_parts(
    compare: CompareSettings, dataset: Dataset, directory: Path, console: Console
) -> None:
    log = directory / "comparisons.jsonl"
    finished = {line["part"] for line in read_json_lines(log)}

    def tell(line: str) -> None:
        say(console, line)

    parts: dict[Part, Callable[[], list[Comparison]]] = {
        "layers": compare_layers,
        "networks": lambda: _compare_networks(compare, directory, tell),
        "optimizers": compare_optimizers,
        "data": lambda: compare_data(dataset.train),
        "initialisation": compare_initialisation,
        "training": lambda: _compare_training(compare, dataset, directory, tell),
        "distribution": lambda: _compare_distribution(compare, dataset, directory, tell),
    }
    for part, run in parts.items():
        if part not in compare.parts or part in finished:
            continue
        tell(f"{part} …")
        comparisons = [asdict(comparison) for comparison in run()]
        append_json_line(log, {"part": part, "comparisons": comparisons})


def _compare_networks(
    compare: CompareSettings, directory: Path, tell: Callable[[str], None]
) -> list[Comparison]:
    log = directory / "networks.jsonl"
    finished = {line["network"]: line["comparisons"] for line in read_json_lines(log)}
    for architecture in networks.ARCHITECTURES:
        words = architecture.words
        if architecture.name in compare.networks and words not in finished:
            tell(words)
            found = networks.compare_network(replace(architecture, width=compare.width))
            finished[words] = [asdict(comparison) for comparison in found]
            append_json_line(log, {"network": words, "comparisons": finished[words]})
    conditioning = [
        networks.measure_conditioning(Architecture(name, width=compare.width), batch)
        for name, batch in _CONDITIONING.items()
        if name in compare.networks
    ]
    write_json(directory / "conditioning.json", [asdict(line) for line in conditioning])
    comparisons = [Comparison(**values) for lines in finished.values() for values in lines]
    return comparisons + [line.compare() for line in conditioning]


def _compare_training(
    compare: CompareSettings, dataset: Dataset, directory: Path, tell: Callable[[str], None]
) -> list[Comparison]:
    sizes = {
        "float32": (compare.width, compare.batch_size),
        "float64": (min(compare.width, _FLOAT64_WIDTH), min(compare.batch_size, _FLOAT64_BATCH)),
    }
    comparisons = []
    for dtype, (width, batch_size) in sizes.items():
        curves = training.train_curves(
            dataset.train,
            dtype,
            width=width,
            batch_size=batch_size,
            steps=compare.steps,
            log=directory / "training.jsonl",
            say=tell,
        )
        comparisons += [pair.compare() for pair in curves]
    return comparisons


def _compare_distribution(
    compare: CompareSettings, dataset: Dataset, directory: Path, tell: Callable[[str], None]
) -> list[Comparison]:
    log = directory / "distribution.jsonl"
    runs = distribution.train_runs(dataset.train, compare.seeds, compare.width, log, tell)
    return distribution.compare_runs(runs)
