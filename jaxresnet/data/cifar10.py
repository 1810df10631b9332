"""CIFAR-10 (Krizhevsky, 2009) from each of the layouts in which people keep it."""

import os
import urllib.request
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from jaxresnet.data import cifar10_formats as formats
from jaxresnet.data.cache import cached_splits
from jaxresnet.data.dataset import Dataset, OnProgress, Split
from jaxresnet.data.tensorflow import import_tfds
from jaxresnet.errors import UserError

_HOMEPAGE = "https://www.cs.toronto.edu/~kriz/cifar.html"
_CONNECT_TIMEOUT = 10  # seconds

Reader = Callable[[Path, OnProgress], tuple[Split, Split]]


@dataclass(frozen=True)
class Layout:
    """One way in which CIFAR-10 is kept: how to know it, read it, and list its files."""

    name: str
    find: Callable[[Path], Path | None]
    read: Reader
    files: Callable[[Path], Iterable[Path]]


def _files_directly_in(directory: Path) -> list[Path]:
    return [path for path in directory.iterdir() if path.is_file()]


LAYOUTS = (
    Layout("TFDS", formats.find_tfds, formats.read_tfds, _files_directly_in),
    Layout("python batches", formats.find_python, formats.read_python, _files_directly_in),
    Layout("binary batches", formats.find_binary, formats.read_binary, _files_directly_in),
    Layout("class folders", formats.find_folders, formats.read_folders, formats.folder_files),
)

ACCEPTED = (
    "a TFDS directory (holding cifar10/3.0.2), a folder with cifar-10-batches-py or "
    "cifar-10-batches-bin, or class folders of images (train/airplane/*.png ... "
    "test/truck/*.png)"
)


def usual_directory() -> Path:
    """Where TFDS keeps its data: $TFDS_DATA_DIR, by default ~/tensorflow_datasets."""
    return Path(os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets").expanduser()


def load_cifar10(directory: Path, on_progress: OnProgress) -> Dataset:
    """Reads CIFAR-10 from `directory` in whichever layout it finds there.

    The first call decodes all images and keeps a copy in the user's cache directory.
    on_progress: called with (images done, images in all) while decoding.

    Raises:
      UserError: the directory is missing, empty or of another layout, or the data are cut
        short, damaged or wrongly labelled.
    """
    found = find_cifar10(directory)
    if found is None:
        raise UserError(f"{_what_is_wrong(directory)}\naccepted: {ACCEPTED}")
    layout, path = found
    train, test = cached_splits(
        "cifar10", layout.files(path), lambda: _read_checked(layout, path, on_progress)
    )
    return Dataset("cifar10", formats.CLASS_NAMES, train, test, f"{path} ({layout.name})")


def find_cifar10(directory: Path) -> tuple[Layout, Path] | None:
    """The layout that `directory` holds and the folder it begins in, or None."""
    if not directory.is_dir():
        return None
    for layout in LAYOUTS:
        path = layout.find(directory)
        if path is not None:
            return layout, path
    return None


def download_cifar10() -> Path:
    """Has TFDS download and prepare CIFAR-10 in the usual directory, which it returns.

    Raises:
      OSError: there is no network, or the download failed.
    """
    directory = usual_directory()
    request = urllib.request.Request(_HOMEPAGE, method="HEAD")
    try:
        # TFDS retries for minutes where there is no network at all: ask once first.
        with urllib.request.urlopen(request, timeout=_CONNECT_TIMEOUT):
            pass
        import_tfds().builder("cifar10", data_dir=directory).download_and_prepare()
    except Exception as error:  # TFDS lets through whatever its network layers raise
        raise OSError(f"the download failed: {error}") from error
    return directory


def _what_is_wrong(directory: Path) -> str:
    if not directory.exists():
        return f"the data directory {directory} does not exist"
    if not directory.is_dir():
        return f"the data directory {directory} is not a directory"
    names = sorted(path.name for path in directory.iterdir())
    if not names:
        return f"the data directory {directory} is empty"
    shown = ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
    return f"no CIFAR-10 found in {directory}, which holds {shown}"


def _read_checked(layout: Layout, path: Path, on_progress: OnProgress) -> tuple[Split, Split]:
    splits = layout.read(path, on_progress)
    for name, split in zip(("train", "test"), splits, strict=True):
        wrong = np.flatnonzero((split.labels < 0) | (split.labels >= len(formats.CLASS_NAMES)))
        if wrong.size:
            raise UserError(
                f"{path}: {name} image {wrong[0]} has label {split.labels[wrong[0]]}, "
                "expected 0 to 9: the data set is damaged; fetch it again"
            )
    return splits
