"""The CIFAR sets (Krizhevsky, 2009), from wherever a copy is, else from the network.

To add one, describe it as CIFAR10 is, and put it into SOURCES.
"""

import os
import urllib.request
from pathlib import Path

import numpy as np

from jaxresnet.data.cache import cached_arrays, digest_of_files
from jaxresnet.data.cifar_layouts import (
    BinaryBatches,
    CifarSet,
    ClassFolders,
    Layout,
    PythonBatches,
    Tfds,
)
from jaxresnet.data.dataset import Dataset, OnProgress, Split, Wanted, not_found
from jaxresnet.data.tensorflow import import_tfds
from jaxresnet.errors import UserError

_HOMEPAGE = "https://www.cs.toronto.edu/~kriz/cifar.html"
_CONNECT_TIMEOUT = 10  # seconds


class Cifar(CifarSet):
    """The first load decodes all images and keeps a copy in the user's cache directory."""

    def load(self, directory: Path | None, wanted: Wanted, on_progress: OnProgress) -> Dataset:
        directory = directory.expanduser() if directory else self._usual_directory()
        try:
            if not (match := self._find(directory)):
                raise not_found(self.title, directory, self._accepted())
            layout, folder = match
            files = [path for path in folder.glob(layout.watched) if path.is_file()]

            def decode() -> dict[str, np.ndarray]:
                arrays = {}
                splits = layout.read(self, folder, on_progress)
                for name, split in zip(self.sizes, splits, strict=True):
                    arrays |= {f"{name}_images": split.pixels, f"{name}_labels": split.labels}
                return arrays

            arrays = cached_arrays(self.name, digest_of_files(files), decode)
            train, test = (
                Split(arrays[f"{name}_images"], arrays[f"{name}_labels"]) for name in self.sizes
            )
        except OSError as error:
            raise UserError(f"{directory} cannot be read: {error}") from error
        location = f"{folder} ({layout.title})"
        return Dataset(self.name, self, self.class_names, train, test, location, layout.published)

    def _usual_directory(self) -> Path:
        """Where TFDS keeps its data; a set is downloaded there if it is not there yet.

        Raises:
          OSError: the download failed.
        """
        directory = Path(os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets").expanduser()
        if self._find(directory):
            return directory
        try:
            # TFDS retries for minutes where there is no network at all: ask once first.
            request = urllib.request.Request(_HOMEPAGE, method="HEAD")
            with urllib.request.urlopen(request, timeout=_CONNECT_TIMEOUT):
                pass
            import_tfds().builder(self.name, data_dir=directory).download_and_prepare()
        except Exception as error:  # TFDS lets through whatever its network layers raise
            raise OSError(
                f"{self.title} are not available: the download failed: {error}\n"
                f"three ways to get {self.title}:\n"
                f"  1. --data-dir DIR with {self._accepted()}\n"
                f"  2. put a TFDS copy in {directory}\n"
                "  3. connect to the network once: it is then downloaded there"
            ) from error
        return directory

    def _find(self, directory: Path) -> tuple[Layout, Path] | None:
        """The layout that the directory holds, and the folder in which it begins."""
        for layout in self.layouts:
            if folder := layout.find(self, directory):
                return layout, folder
        return None

    def _accepted(self) -> str:
        return " or ".join(layout.accepted(self) for layout in self.layouts)


_TRAIN_FILES = [f"data_batch_{number}" for number in range(1, 6)]
CIFAR10 = Cifar(
    title="CIFAR-10 images",
    # kuangliu/pytorch-cifar's constants, kept for the published protocol. Its standard deviation
    # is an average over images of each image's own; over all pixels it is (0.2470, 0.2435, 0.2616).
    mean=(0.4914, 0.4822, 0.4465),
    std=(0.2023, 0.1994, 0.2010),
    image_size=32,
    sizes={"train": 50_000, "test": 10_000},
    name="cifar10",
    class_names=(
        "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck",
    ),
    layouts=(
        Tfds(),
        PythonBatches(
            "cifar-10-batches-py", {"train": _TRAIN_FILES, "test": ["test_batch"]}, b"labels"
        ),
        BinaryBatches(
            "cifar-10-batches-bin",
            {"train": [f"{name}.bin" for name in _TRAIN_FILES], "test": ["test_batch.bin"]},
            label_bytes=1,
        ),
        ClassFolders(),
    ),
)  # fmt: skip
