"""Where images come from: the table of sources, and the options that choose among them."""

import hashlib
import os
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

import numpy as np

from jaxresnet.data.cache import cached_arrays
from jaxresnet.data.cifar import CIFAR10
from jaxresnet.data.dataset import Dataset, OnProgress, Source, Split
from jaxresnet.data.imagenet import FOLDERS, IMAGENET
from jaxresnet.data.pictures import EncodedImages, find_damaged
from jaxresnet.data.synthetic import SYNTHETIC
from jaxresnet.errors import UserError
from jaxresnet.options import flag, one_of, option, plural, unpublished

# By their names on the command line. `auto` takes the preferred source if there is a copy or a
# network, else the built-in one.
SOURCES: dict[str, Source] = {
    "cifar10": CIFAR10,
    "imagenet": IMAGENET,
    "folders": FOLDERS,
    "synthetic": SYNTHETIC,
}
_PREFERRED, _BUILT_IN = "cifar10", "synthetic"


@dataclass(frozen=True)
class LocationOptions:
    """Where images come from."""

    # Of these, image_size alone decides the result: else the images' fingerprint does.
    data: Annotated[str, one_of({"auto": None, **SOURCES}, "data")] = unpublished(
        "auto", affects="nothing"
    )
    """auto: CIFAR-10 if there is a copy or a network, else built-in images. No other falls back."""
    data_dir: Path | None = unpublished(None, affects="nothing")
    """Where the data set is: a TFDS directory, class folders of images, CIFAR-10's official python
    or binary folder, Kaggle's copy of ImageNet. None: the usual TFDS directory, else a download."""
    skip_damaged: int = option(
        0,
        affects="nothing",
        published=True,
        says=lambda limit: f"at most {plural(limit, 'damaged file')} left out",
        at_least=0,
    )
    """Decode all files once, and leave out those that cannot be, up to so many. 0: stop at the
    first."""

    def check(self) -> None:
        """Raises UserError if the options contradict each other."""
        if self.data == _BUILT_IN and self.data_dir is not None:
            raise UserError(
                f"--data-dir is {self.data_dir}, but --data is {self.data} (--quick makes it so): "
                f"add --data {_PREFERRED}, or leave out --data-dir"
            )


@dataclass(frozen=True)
class SourceOptions(LocationOptions):
    """And how large the network gets them."""

    image_size: int | None = option(
        None, affects="result", published=True, says="{0}x{0} pixels", at_least=1
    )
    """Pixels a side of what the network gets. None: 32 of CIFAR-10, 224 of photographs."""


@dataclass(frozen=True)
class ImageOptions(SourceOptions):
    """And how many of them."""

    train_images: int | None = option(None, affects="result", published=True, says="", at_least=1)
    """Train on a fixed choice of so many images. None: all of them."""
    eval_images: int | None = option(None, affects="result", published=True, says="", at_least=1)
    """Evaluate on a fixed choice of so many test images. None: all of them."""
    decode: Literal["exact", "fast"] = option(
        "exact", affects="result", published=True, says="{} decoding"
    )
    """How training images in files are decoded and resized. exact: as Pillow does. fast: at a
    reduced scale where that has enough pixels, and without antialiasing."""


def load_dataset(
    options: ImageOptions, *, on_progress: OnProgress, warn: Callable[[str], None]
) -> Dataset:
    """Loads the images asked for; `warn` is told if "auto" falls back to the built-in ones.

    Raises:
      UserError: the data are not available, are damaged, or fewer than asked for, or options are
        for images in files and these are in memory.
    """
    name = _PREFERRED if options.data == "auto" else options.data
    _check_decoding(options, SOURCES[name])
    wanted = options.train_images, options.eval_images
    try:
        dataset = SOURCES[name].load(options.data_dir, wanted, on_progress)
    except OSError as error:
        built_in = SOURCES[_BUILT_IN]
        if options.data != "auto":
            raise UserError(f"{error}\nor use {built_in.title} with --data {_BUILT_IN}") from error
        warn(f"{error}\nusing {built_in.title} instead")
        dataset = built_in.load(options.data_dir, wanted, on_progress)
    dataset = _leave_out_damaged(dataset, options.skip_damaged, on_progress)
    size = options.image_size or dataset.source.image_size

    def prepared(split: Split, images: int | None, option: str) -> Split:
        split = replace(split.subset(images, flag(option)), size=size)
        if isinstance(split.images, EncodedImages):
            split = replace(split, images=replace(split.images, fast=options.decode == "fast"))
        return split

    train = prepared(dataset.train, options.train_images, "train_images")
    test = prepared(dataset.test, options.eval_images, "eval_images")
    return replace(dataset, train=train, test=test)


def _check_decoding(options: ImageOptions, source: Source) -> None:
    """Raises UserError for options about decoding where nothing is decoded."""
    for name in ("skip_damaged", "decode"):
        value = getattr(options, name)
        if not source.in_files and value != getattr(ImageOptions(), name):
            raise UserError(
                f"{flag(name)} {value} is for images in files, but {source.title} are in memory: "
                "leave it out"
            )


def _leave_out_damaged(dataset: Dataset, limit: int, on_progress: OnProgress) -> Dataset:
    """The data set without the files that cannot be decoded, each named in a warning.

    They are looked for if some may be left out, once for each copy: the cache remembers them, and
    later starts decode those again, since they may have been replaced.

    Raises:
      UserError: there are more than that, or a file cannot be read.
    """
    splits = {"train": dataset.train, "test": dataset.test}
    files = {n: s.images for n, s in splits.items() if isinstance(s.images, EncodedImages)}
    if not limit or not files:
        return dataset
    copies = b"".join(os.fsencode(images.root.resolve()) + b"\0" for images in files.values())
    suspects = cached_arrays(
        f"{dataset.name}-damaged",
        hashlib.sha256(copies + dataset.fingerprint().encode()).hexdigest(),
        lambda: {name: find_damaged(images, on_progress) for name, images in files.items()},
    )
    damaged = {
        name: suspects[name][find_damaged(images[suspects[name]], lambda *_: None)]
        for name, images in files.items()
    }
    names = [files[name].name(index) for name in files for index in damaged[name].tolist()]
    if len(names) > limit:
        raise UserError(
            f"{plural(len(names), 'file')} cannot be decoded, but --skip-damaged is {limit}: "
            f"{', '.join(names[:5])}{', ...' * (len(names) > 5)}"
        )
    for name in names:
        warnings.warn(f"left out, since it cannot be decoded: {name}", stacklevel=2)
    kept = {
        name: split.choose(np.setdiff1d(np.arange(len(split)), damaged[name]))
        for name, split in splits.items()
    }
    return replace(dataset, **kept, left_out=tuple(names))
