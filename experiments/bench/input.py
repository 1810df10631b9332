"""Benchmark of input pipelines on CIFAR-10's transforms: the loaders and PyTorch's DataLoader."""

import tempfile
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path

import jax
import numpy as np

from experiments.bench.benchmark import Benchmark, ContestOptions, Findings, run_benchmark
from experiments.bench.contest import Contest, Contestant, Result, spread
from experiments.harness.command import make_console, run_command
from experiments.harness.images import load_images
from jaxresnet.data.augment import CROP_PADDING
from jaxresnet.data.dataset import Dataset
from jaxresnet.data.loaders import LOADERS
from jaxresnet.data.sources import ImageOptions, SourceOptions
from jaxresnet.errors import UserError
from jaxresnet.options import option, parse_options
from jaxresnet.report.tables import Column, median_and_range, number

EXPERIMENT = "bench_input"

_WARMUP = 2  # batches of each contestant before the first round
_ABOUT = (
    f"Random crop of padding {CROP_PADDING}, horizontal flip, normalised float32 images. tf.data "
    "hands over uint8, which JAX normalises; resident is cut and normalised by JAX alone, as a "
    "training step does. That is in their times."
)
_NOTE = (
    "A round is a new epoch of {:,} batches, with the start and the end of its workers. Set-up: "
    "making the loader and the first batches."
)

_option = partial(option, affects="time", published=False, says="")


@dataclass(frozen=True)
class InputSettings(ContestOptions):
    """What is timed, and how often."""

    rounds: int = _option(5, at_least=1)
    """How often each contestant is asked, one after the other."""
    # The images' fingerprint stands for how many they are.
    train_images: int | None = option(None, affects="nothing", published=False, says="", at_least=1)
    """Feed a fixed choice of so many images. None: all of them."""
    batch_size: int = _option(128, at_least=1)
    """Images in a batch."""
    workers: tuple[int, ...] = _option((0, 1, 2), at_least=0)
    """Of each loader that has any, a contestant each. 0: batches are made in line."""
    batches_per_round: int | None = _option(None, at_least=1)
    """Batches that a contestant makes when it is asked, a new epoch's. None: the whole epoch."""
    source: SourceOptions = field(default_factory=SourceOptions)


def input_benchmark(settings: InputSettings, dataset: Dataset, directory: Path) -> Benchmark:
    """The loaders over a data set's training images, which they read from files in `directory`.

    Raises:
      UserError: an epoch has fewer batches than were asked for.
    """
    images, batch_size = len(dataset.train), settings.batch_size
    epoch = -(-images // batch_size)
    batches = settings.batches_per_round or epoch
    if batches > epoch:
        raise UserError(
            f"--batches-per-round is {batches:,}, but an epoch of {images:,} images has only "
            f"{epoch:,} batches of {batch_size}"
        )
    return Benchmark(
        EXPERIMENT,
        dataset.name,
        "Input",
        f"batches of {batch_size}, {images:,} {dataset.title}",
        _ABOUT,
        "{framework} (transforms: {transforms})",
        _contestants(settings, dataset, directory),
        batches,
        partial(_report, batches),
        {"data fingerprint": dataset.fingerprint()},
    )


def _contestants(settings: InputSettings, dataset: Dataset, directory: Path) -> list[Contestant]:
    files = {name: directory / f"{name}.npy" for name in ("images", "labels")}
    for name, path in files.items():
        np.save(path, getattr(dataset.train, name))
    common = {
        **files,
        "batch_size": settings.batch_size,
        "mean": dataset.source.mean,
        "std": dataset.source.std,
        "padding": CROP_PADDING,
        "warmup": _WARMUP,
    }

    def with_workers(name: str) -> dict[str, dict[str, int]]:
        return {f"{name}, workers {workers}": {"workers": workers} for workers in settings.workers}

    contestants = [
        Contestant(
            name, "experiments.bench.jax_input", {**common, "loader": {"loader": loader, **options}}
        )
        for loader, kind in LOADERS.items()
        for name, options in (with_workers(loader) if kind.has_workers else {loader: {}}).items()
    ]
    return contestants + [
        Contestant(name, "experiments.bench.torch_input", {**common, **options}, pytorch=True)
        for name, options in with_workers("PyTorch").items()
    ]


def _report(batches: int, contest: Contest) -> Findings:
    columns: list[Column[Result]] = [
        Column("images/s\n(range)", lambda r: median_and_range(r.rates, "{:,.0f}".format)),
        Column("relative\nspeed (range)", contest.relative_speed),
        Column("set-up s", lambda r: r.start["set_up_seconds"], 1),
    ]
    note = _NOTE.format(batches)
    if not contest.has_pytorch:
        return Findings(columns, note, "", {"best_to_best": None})
    on_host = [name for name, kind in LOADERS.items() if kind.has_workers]
    hosted = [result for result in contest.results if result.start["transforms"] in on_host]
    best = contest.relative_speed(*hosted)
    comparison = f"The fastest of {', '.join(on_host)} to {contest.reference}"
    remark = f"{comparison}: {median_and_range(best, number)}."
    return Findings(columns, note, remark, {"best_to_best": spread(best)})


def main(arguments: list[str]) -> None:
    """Parses the command line, times the contestants in turn, and reports.

    Raises:
      UserError: an option makes no sense, or the images or the output directory are not usable.
      CheckFailed: one of this project's loaders failed.
    """
    command = "python -m experiments.bench.input"
    settings = parse_options(InputSettings, command, __doc__ or "", arguments)
    if not settings.workers:
        raise UserError("--workers needs at least one number")
    console = make_console()
    images = ImageOptions(
        **asdict(settings.source), train_images=settings.train_images, eval_images=1
    )
    dataset = load_images(images, console)
    with tempfile.TemporaryDirectory(prefix=f"{EXPERIMENT}-") as directory:
        benchmark = input_benchmark(settings, dataset, Path(directory))
        run_benchmark(benchmark, settings, console)


if __name__ == "__main__":
    jax.config.update("jax_platforms", "cpu")  # as in the contestants, before anything asks
    run_command(main)
