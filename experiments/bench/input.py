"""Benchmark of input pipelines on CIFAR-10's transforms: the loaders and PyTorch's DataLoader."""

import tempfile
from dataclasses import asdict, dataclass, field
from pathlib import Path

import jax
import numpy as np

from experiments.bench.benchmark import Benchmark, ContestOptions, spread, time_option
from experiments.bench.contestant import Contestant
from experiments.harness.command import run_command
from experiments.harness.images import load_images
from jaxresnet.data.augment import CROP_PADDING
from jaxresnet.data.dataset import Dataset
from jaxresnet.data.loaders import LOADERS
from jaxresnet.data.sources import ImageOptions, SourceOptions
from jaxresnet.errors import UserError
from jaxresnet.options import parse_options, unpublished
from jaxresnet.report.tables import Column, median_and_range, number

EXPERIMENT = "bench_input"

_ABOUT = (
    f"Random crop of padding {CROP_PADDING}, horizontal flip, normalised float32 images. tf.data "
    "hands over uint8, which JAX normalises; resident is cut and normalised by JAX alone, as a "
    "training step does. What JAX does is in the times of all loaders."
)
_NOTE = (
    "A round is a new epoch ({:,} batches), with the start and the end of its workers. Set-up: "
    "making the loader and the first batches."
)


@dataclass(frozen=True)
class InputSettings(ContestOptions):
    """What is timed, and how often."""

    rounds: int = time_option(5, at_least=1)
    """How often each contestant is asked, one after the other."""
    # The images' fingerprint stands for how many they are.
    train_images: int | None = unpublished(None, affects="nothing", at_least=1)
    """Feed a fixed choice of so many images. None: all of them."""
    batch_size: int = time_option(128, at_least=1)
    """Images in a batch."""
    workers: tuple[int, ...] = time_option((0, 1, 2), at_least=0, distinct=True)
    """Of each loader that has any, a contestant each. 0: batches are made in line."""
    batches_per_round: int | None = time_option(None, at_least=1)
    """Batches that a contestant makes when it is asked, a new epoch's. None: the whole epoch."""
    source: SourceOptions = field(default_factory=SourceOptions)

    def batches(self, images: int) -> int:
        """In a round. Raises UserError if an epoch has fewer."""
        epoch = -(-images // self.batch_size)
        batches = self.batches_per_round or epoch
        if batches > epoch:
            raise UserError(
                f"--batches-per-round is {batches:,}, but an epoch of {images:,} images has only "
                f"{epoch:,} batches of {self.batch_size}"
            )
        return batches


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
    benchmark = Benchmark(EXPERIMENT, settings)
    subset = ImageOptions(
        **asdict(settings.source), train_images=settings.train_images, eval_images=1
    )
    dataset = load_images(subset, benchmark.console)
    images = len(dataset.train)
    batches = settings.batches(images)
    with tempfile.TemporaryDirectory(prefix=f"{EXPERIMENT}-") as directory:
        benchmark.run(
            f"Input: batches of {settings.batch_size}, {images:,} {dataset.title}",
            dataset.name,
            _contestants(settings, dataset, batches, Path(directory)),
            fingerprint=dataset.fingerprint(),
        )
    columns: list[Column[Contestant]] = [
        Column("images/s\n(range)", lambda c: median_and_range(c.rates, "{:,.0f}".format)),
        Column("relative\nspeed (range)", benchmark.relative_speed),
        Column("set-up s", lambda c: c.start["set_up_seconds"], 1),
    ]
    about, best = _ABOUT, None
    if benchmark.pytorch:
        on_host = [name for name, kind in LOADERS.items() if kind.has_workers]
        hosted = [each for each in benchmark.results if each.start["transforms"] in on_host]
        best = benchmark.relative_speed(*hosted)
        about += f" The fastest of {', '.join(on_host)} to {benchmark.reference}: "
        about += f"{median_and_range(best, number)}."
    software, note = "{framework} (transforms: {transforms})", _NOTE.format(batches)
    benchmark.report(about, software, columns, note, best_to_best=best and spread(best))


def _contestants(
    settings: InputSettings, dataset: Dataset, batches: int, directory: Path
) -> list[Contestant]:
    """The loaders and PyTorch's; they read the images from files in `directory`."""
    files = {name: directory / f"{name}.npy" for name in ("images", "labels")}
    for name, path in files.items():
        np.save(path, getattr(dataset.train, name))
    common = {
        **files,
        "batch_size": settings.batch_size,
        "batches": batches,
        "mean": dataset.source.mean,
        "std": dataset.source.std,
        "padding": CROP_PADDING,
    }
    contestants = []
    for loader in (*LOADERS, "PyTorch"):
        pytorch = loader not in LOADERS
        module = f"experiments.bench.{'torch' if pytorch else 'jax'}_input"
        has_workers = pytorch or LOADERS[loader].has_workers
        for workers in settings.workers if has_workers else (0,):
            name = f"{loader}, workers {workers}" if has_workers else loader
            options = {**common, "loader": loader, "workers": workers}
            contestants.append(Contestant(name, module, options, pytorch))
    return contestants


if __name__ == "__main__":
    jax.config.update("jax_platforms", "cpu")  # as in the contestants, before anything asks
    run_command(main)
