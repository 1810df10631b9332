"""Benchmark of the input pipelines on CIFAR-10's transforms: tf.data and PyTorch's DataLoader."""

import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import jax
import numpy as np
import tyro

from experiments.benchmark.contest import Contestant, find_torch, run_contest
from experiments.benchmark.input_report import InputContest, input_findings
from experiments.benchmark.output import write_benchmark
from experiments.command import make_console, run_command, say
from experiments.images import load_images
from experiments.run_directory import check_directory, default_directory
from experiments.settings import SourceSettings, at_least, check_source
from jaxresnet.data.augment import CIFAR10_MEAN, CIFAR10_STD, CROP_PADDING
from jaxresnet.data.dataset import Dataset
from jaxresnet.errors import UserError

EXPERIMENT = "bench_input"

_WARMUP = 2  # batches of each contestant before the first round


@dataclass(frozen=True)
class InputSettings:
    """What is timed, and how often."""

    train_images: int | None = None
    """Feed a fixed choice of so many images. None: all of them."""
    batch_size: int = 128
    workers: tuple[int, ...] = (0, 1, 2)
    """Of either library, a contestant each. 0: batches are made in line."""
    rounds: int = 5
    """How often each contestant is asked, one after the other."""
    batches_per_round: int | None = None
    """Batches that a contestant makes when it is asked, a new epoch's. None: the whole epoch."""
    torch_python: Path | None = None
    """A Python interpreter that can import torch. None: this one."""
    out: Path | None = None
    """Where results go. None: runs/bench_input/<name made from the settings>."""


@dataclass(frozen=True)
class AllSettings:
    """All options of the benchmark."""

    input: InputSettings = field(default_factory=InputSettings)
    data: SourceSettings = field(default_factory=SourceSettings)


def main(arguments: list[str]) -> None:
    """Parses the command line, times the contestants in turn, and reports.

    Raises:
      UserError: an option makes no sense, or the images or the output directory are not usable.
      CheckFailed: this project's pipeline failed.
    """
    all_settings = tyro.cli(
        AllSettings,
        prog=f"python -m experiments.{EXPERIMENT}",
        description=__doc__,
        args=arguments,
        config=(tyro.conf.OmitArgPrefixes, tyro.conf.FlagCreatePairsOff),
    )
    settings = all_settings.input
    _check(all_settings)
    if settings.out is not None:
        check_directory(settings.out, EXPERIMENT)
    console = make_console()
    torch_python = find_torch(settings.torch_python)
    dataset = load_images(all_settings.data, settings.train_images, 1, console)
    batches = _batches_per_round(settings, len(dataset.train))
    free = {"out": None, "torch_python": None, "train_images": len(dataset.train)}
    identity = {**asdict(settings), **free, "data fingerprint": dataset.fingerprint()}
    directory = settings.out or default_directory(EXPERIMENT, dataset.name, identity)
    words = f"batches of {settings.batch_size}, {len(dataset.train):,} images ({dataset.words})"
    say(console, f"{EXPERIMENT}: {words}; results in {directory}")
    with tempfile.TemporaryDirectory(prefix="bench_input-") as temporary:
        contestants = _contestants(settings, dataset, Path(temporary), torch_python)
        contest = run_contest(
            contestants, settings.rounds, batches, lambda line: say(console, line)
        )
    findings = input_findings(InputContest(words, batches, contest, torch_python is not None))
    options = {**asdict(settings), **asdict(all_settings.data)}
    write_benchmark(directory, EXPERIMENT, options, contest, findings, console)


def _check(all_settings: AllSettings) -> None:
    settings = all_settings.input
    check_source(all_settings.data)
    for name in ("train_images", "batch_size", "rounds", "batches_per_round"):
        at_least(f"--{name.replace('_', '-')}", getattr(settings, name), 1)
    if not settings.workers:
        raise UserError("--workers needs at least one number")
    at_least("--workers", min(settings.workers), 0)
    if len(set(settings.workers)) < len(settings.workers):
        raise UserError(f"--workers names one twice: {' '.join(map(str, settings.workers))}")


def _batches_per_round(settings: InputSettings, images: int) -> int:
    epoch = -(-images // settings.batch_size)
    if settings.batches_per_round is not None and settings.batches_per_round > epoch:
        raise UserError(
            f"--batches-per-round is {settings.batches_per_round:,}, but an epoch of {images:,} "
            f"images has only {epoch:,} batches of {settings.batch_size}"
        )
    return settings.batches_per_round or epoch


def _contestants(
    settings: InputSettings, dataset: Dataset, temporary: Path, torch_python: str | None
) -> Sequence[Contestant]:
    """Contestants that read their images from files in the temporary directory."""
    files = {"images": temporary / "images.npy", "labels": temporary / "labels.npy"}
    np.save(files["images"], dataset.train.images)
    np.save(files["labels"], dataset.train.labels)
    common = {
        **{name: str(path) for name, path in files.items()},
        "batch_size": settings.batch_size,
        "mean": CIFAR10_MEAN,
        "std": CIFAR10_STD,
        "padding": CROP_PADDING,
        "warmup": _WARMUP,
    }
    ours, theirs = "experiments.benchmark.jax_input", "experiments.benchmark.torch_input"
    contestants = [
        Contestant(
            f"tf.data, workers {workers}", ours, {**common, "loader": "tfdata", "workers": workers}
        )
        for workers in settings.workers
    ]
    contestants.append(Contestant("resident", ours, {**common, "loader": "resident"}))
    if torch_python is not None:
        contestants += [
            Contestant(
                f"PyTorch, workers {workers}",
                theirs,
                {**common, "workers": workers},
                torch_python,
                pytorch=True,
            )
            for workers in settings.workers
        ]
    return contestants


if __name__ == "__main__":
    jax.config.update("jax_platforms", "cpu")  # as in the contestants, before anything asks
    run_command(main)
