"""Benchmark of input pipelines: this project's loaders and PyTorch's DataLoader."""

import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

import jax
import numpy as np

from experiments.bench.benchmark import Benchmark, ContestOptions, spread, time_option
from experiments.bench.contestant import Contestant
from experiments.harness.command import run_command
from experiments.harness.images import load_images
from jaxresnet.data.augment import AUGMENTATIONS, CROP_PADDING
from jaxresnet.data.dataset import Batch, Dataset, Split
from jaxresnet.data.loaders import LOADERS, PictureLoader, WorkerOptions
from jaxresnet.data.pictures import EncodedImages
from jaxresnet.data.sources import ImageOptions, SourceOptions
from jaxresnet.errors import UserError
from jaxresnet.options import parse_options, unpublished
from jaxresnet.report.tables import Column, median_and_range, number

EXPERIMENT = "bench_input"

_CROPS = {
    "crop-flip": f"Random crop of padding {CROP_PADDING}",
    "resized-crop": "Random resized crop to {image_size} pixels",
}
_ABOUT = (
    "{crop}, horizontal flip, normalised float32 images. tfdata hands over uint8, which JAX "
    "normalises{resident}. What JAX does is in the times of all loaders."
)
_RESIDENT = "; resident is cut and normalised by JAX alone, as a training step does"
_DEVIATION = (
    " The pixels of {group} differ from the exact ones by {mean:.2f} of 255 levels on average, "
    "{greatest} at most."
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
    originals: Path | None = time_option(None)
    """For PyTorch, which reads no records: class folders of the images that --data-dir was
    prepared from. None: the same files for all."""
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
    dataset = _load(settings, settings.source.data_dir, benchmark)
    split = dataset.train
    common = {
        "batch_size": settings.batch_size,
        "batches": settings.batches(len(split)),
        "mean": dataset.source.mean,
        "std": dataset.source.std,
        "image_size": split.image_size,
        "augment": "crop-flip" if split.in_memory else "resized-crop",
        "padding": CROP_PADDING,
    }
    with tempfile.TemporaryDirectory(prefix=f"{EXPERIMENT}-") as directory:
        ours = theirs = common | _save(split, Path(directory, "images.npz"))
        if settings.originals:
            originals = _load(settings, settings.originals, benchmark).train
            if not np.array_equal(originals.labels, split.labels):
                raise UserError(
                    f"--originals {settings.originals} and --data-dir {settings.source.data_dir} "
                    "hold different images: their numbers or classes are not the same"
                )
            theirs = common | _save(originals, Path(directory, "originals.npz"))
        benchmark.run(
            f"Input: batches of {settings.batch_size}, {len(split):,} {dataset.title}",
            dataset.name,
            _contestants(settings.workers, split, ours, theirs),
            fingerprint=dataset.fingerprint(),
        )
    originals = settings.originals
    _report(benchmark, split, common, f" PyTorch reads {originals}." if originals else "")


def _load(settings: InputSettings, data_dir: Path | None, benchmark: Benchmark) -> Dataset:
    source = asdict(replace(settings.source, data_dir=data_dir))
    options = ImageOptions(**source, train_images=settings.train_images, eval_images=1)
    return load_images(options, benchmark.console)


def _save(split: Split, path: Path) -> dict[str, Any]:
    """Writes the images' arrays for the contestants, and returns the settings that name them."""
    images, root = split.images, None
    arrays: dict[str, Any] = {"labels": split.labels}
    if isinstance(images, EncodedImages):
        arrays |= {name: getattr(images, name) for name in ("names", "offsets", "lengths")}
        root = images.root.absolute()
    else:
        arrays["pixels"] = images
    np.savez(path, **arrays)
    return {"images": path, "root": root}


def _contestants(
    workers: tuple[int, ...], split: Split, ours: dict[str, Any], theirs: dict[str, Any]
) -> list[Contestant]:
    """The loaders that take such images, with each way to decode them, and PyTorch's."""
    in_files = isinstance(split.images, EncodedImages)
    groups = {
        f"{loader} {'fast' if fast else 'exact'}" if in_files else loader: (
            {**ours, "loader": loader, "fast": fast, "on_host": kind.has_workers}
        )
        for loader, kind in LOADERS.items()
        if split.in_memory or kind.has_workers
        for fast in ((False, True) if in_files else (False,))
    }
    contestants = []
    for group, settings in {**groups, "PyTorch": {**theirs, "on_host": True}}.items():
        module = f"experiments.bench.{'jax' if group in groups else 'torch'}_input"
        for count in workers if settings["on_host"] else (0,):
            name = f"{group}, workers {count}" if settings["on_host"] else group
            options = {**settings, "group": group, "workers": count}
            contestants.append(Contestant(name, module, options, pytorch=group not in groups))
    return contestants


def _report(benchmark: Benchmark, split: Split, settings: dict[str, Any], originals: str) -> None:
    """settings: what all contestants share. originals: a sentence about those."""
    crop = _CROPS[settings["augment"]].format(**settings)
    about = _ABOUT.format(crop=crop, resident=_RESIDENT if split.in_memory else "")
    about += originals
    groups: dict[str, list[Contestant]] = {}
    for each in benchmark.results:
        if each.settings["on_host"] and not each.pytorch:
            groups.setdefault(each.settings["group"], []).append(each)
    best, deviation = {}, None
    for group, members in groups.items():
        if benchmark.pytorch:
            speed = benchmark.relative_speed(*members)
            best[group] = spread(speed)
            about += f" The fastest of {group} to {benchmark.reference}: "
            about += f"{median_and_range(speed, number)}."
        if members[0].settings["fast"]:
            deviation = _deviation_of_fast(split, settings)
            about += _DEVIATION.format(group=group, **deviation)
    columns: list[Column[Contestant]] = [
        Column("images/s\n(range)", lambda c: median_and_range(c.rates, "{:,.0f}".format)),
        Column("relative\nspeed (range)", benchmark.relative_speed),
        Column("set-up s", lambda c: c.start["set_up_seconds"], 1),
    ]
    software, note = "{framework} (transforms: {transforms})", _NOTE.format(settings["batches"])
    results = {"best_to_best": best, "deviation_of_fast": deviation}
    benchmark.report(about, software, columns, note, **results)


def _deviation_of_fast(split: Split, settings: dict[str, Any]) -> dict[str, float]:
    """From the exact pixels of the same views, those of a round: in levels of 256."""

    def batches(*, fast: bool) -> Iterator[Batch]:
        assert isinstance(split.images, EncodedImages)
        pictures = replace(split, images=replace(split.images, fast=fast))
        augmentation = AUGMENTATIONS[settings["augment"]]
        size, workers = settings["batch_size"], WorkerOptions()
        loader = PictureLoader(pictures, augmentation, size, seed=0, options=workers)
        return islice(loader.epoch(0), settings["batches"])

    total, values, greatest = 0.0, 0, 0
    for exact, fast in zip(batches(fast=False), batches(fast=True), strict=True):
        difference = np.abs(np.subtract(exact.images, fast.images, dtype=np.int16))
        total += difference.sum(dtype=np.int64)
        values += difference.size
        greatest = max(greatest, int(difference.max()))
    return {"mean": total / values, "greatest": greatest}


if __name__ == "__main__":
    jax.config.update("jax_platforms", "cpu")  # as in the contestants, before anything asks
    run_command(main)
