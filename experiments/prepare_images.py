"""Makes photographs smaller once, for trainings of many epochs: JPEGs in TFDS's records."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import MISSING, asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress

from experiments.harness import run_directory
from experiments.harness.command import make_console, run_command, say
from experiments.harness.environment import describe_environment
from experiments.harness.images import load_images
from experiments.harness.settings import parse_settings
from jaxresnet import platform
from jaxresnet.data.dataset import Dataset
from jaxresnet.data.pictures import EncodedImages, shrink
from jaxresnet.data.sources import ImageOptions, LocationOptions
from jaxresnet.data.tensorflow import import_tfds
from jaxresnet.errors import UserError
from jaxresnet.options import unpublished

EXPERIMENT = "prepare_images"

_IMAGES_IN_RECORD = 1024  # about 30 MB; what is done when it is interrupted is kept by records


@dataclass(frozen=True)
class PrepareSettings:
    """What is made, and of what."""

    out: Path = unpublished(MISSING, affects="nothing")
    """The new data set's directory, which must not exist: --data-dir of trainings."""
    short_side: int = unpublished(256, affects="result", at_least=1)
    """Pixels of a picture's shorter side. Pictures that have fewer are kept as they are."""
    quality: int = unpublished(90, affects="result", at_least=1, below=101)
    """Of the JPEGs."""
    fresh: bool = unpublished(False, affects="nothing")
    """Delete what an earlier start left unfinished, and begin anew."""
    source: LocationOptions = LocationOptions()


SETTINGS = PrepareSettings


def main(arguments: list[str]) -> None:
    """Parses the command line, and prepares the images.

    Raises:
      UserError: the destination exists, or the images are not pictures in files, or damaged.
    """
    settings, console = parse_settings(SETTINGS, EXPERIMENT, __doc__, arguments), make_console()
    if settings.out.exists():
        raise UserError(f"--out {settings.out} exists: choose another name, or delete it first")
    # Under its own name a set that is not whole would be taken for a smaller one.
    unfinished = settings.out.with_name(f"{settings.out.name}.unfinished")
    run_directory.check_directory(unfinished, EXPERIMENT)
    dataset = load_images(ImageOptions(**asdict(settings.source)), console)
    if not isinstance(dataset.train.images, EncodedImages):
        raise UserError(f"{dataset.title} are small already: give --data imagenet or folders")
    identity = {
        "experiment": EXPERIMENT,
        "data fingerprint": dataset.fingerprint(),
        "--short-side": settings.short_side,
        "--quality": settings.quality,
    }
    with run_directory.open_run_directory(
        unfinished, identity, asdict(settings), describe_environment(), fresh=settings.fresh
    ):
        _write(unfinished, dataset, settings, console)
        unfinished.rename(settings.out)
    say(console, f"ready: --data {dataset.name} --data-dir {settings.out}")


def _write(directory: Path, dataset: Dataset, settings: PrepareSettings, console: Console) -> None:
    """Writes the records that the directory does not have yet."""
    info = _describe(directory, dataset, settings)
    writer = import_tfds().core.SequentialWriter(info, _IMAGES_IN_RECORD, overwrite=False)
    splits = {"train": dataset.train, "validation": dataset.test}
    writer.initialize_splits(list(splits), fail_if_exists=False)
    with (
        ThreadPoolExecutor(platform.cpu_threads()) as pool,
        Progress(console=console, transient=True, disable=not console.is_terminal) as bar,
    ):
        task = bar.add_task("preparing images", total=sum(map(len, splits.values())))
        for name, split in splits.items():
            assert isinstance(split.images, EncodedImages)
            shrunk = partial(
                shrink, split.images, short_side=settings.short_side, quality=settings.quality
            )
            done = info.splits[name].num_examples
            bar.advance(task, done)
            for start in range(done, len(split), _IMAGES_IN_RECORD):
                indices = range(start, min(start + _IMAGES_IN_RECORD, len(split)))
                examples = []
                for index, image in zip(indices, pool.map(shrunk, indices), strict=True):
                    examples.append({"image": image, "label": split.labels[index]})
                    bar.advance(task)
                writer.add_examples({name: examples})
    writer.close_all()


def _describe(directory: Path, dataset: Dataset, settings: PrepareSettings) -> Any:
    """What TFDS knows of the set: a tfds.core.DatasetInfo."""
    core, features = import_tfds().core, import_tfds().features
    kinds = {"image": features.Image(), "label": features.ClassLabel(names=dataset.class_ids)}
    name, version = f"{dataset.name}_{settings.short_side}", core.Version("1.0.0")
    return core.DatasetInfo(
        builder=core.DatasetIdentity(name, version, str(directory), EXPERIMENT),
        description=(
            f"{dataset.title} of {dataset.location}; the shorter side resized to "
            f"{settings.short_side} pixels where it was longer, as JPEGs of quality "
            f"{settings.quality}"
        ),
        features=features.FeaturesDict(kinds),
        supervised_keys=tuple(kinds),
        disable_shuffling=True,
    )


if __name__ == "__main__":
    run_command(main, computes=False)
