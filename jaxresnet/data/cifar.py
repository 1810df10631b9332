"""The CIFAR sets (Krizhevsky, 2009), from wherever a copy is, else from the network."""

import os
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from jaxresnet.data.cache import cached_splits
from jaxresnet.data.cifar_layouts import BinaryBatches, ClassFolders, Layout, PythonBatches, Tfds
from jaxresnet.data.dataset import Dataset, OnProgress, Source, Wanted
from jaxresnet.data.tensorflow import import_tfds
from jaxresnet.errors import UserError

_HOMEPAGE = "https://www.cs.toronto.edu/~kriz/cifar.html"
_CONNECT_TIMEOUT = 10  # seconds


@dataclass(frozen=True, kw_only=True)
class CifarSet(Source):
    """One of the CIFAR sets, read in whichever layout it is kept.

    The first load decodes all images and keeps a copy in the user's cache directory.

    Attributes:
      name: in SOURCES and in TFDS.
      sizes: how many images are in "train" and in "test".
      official: the layouts on the home page.
    """

    name: str
    class_names: tuple[str, ...]
    sizes: Mapping[str, int]
    official: tuple[Layout, ...]

    @property
    def layouts(self) -> tuple[Layout, ...]:
        """The first that is found is read."""
        return Tfds(self.name), *self.official, ClassFolders(self.class_names)

    def load(self, directory: Path | None, wanted: Wanted, on_progress: OnProgress) -> Dataset:
        directory = (directory or self._usual_directory()).expanduser()
        try:
            layout, folder = self._find(directory)
            train, test = cached_splits(
                self.name,
                layout.files(folder),
                lambda: layout.read(folder, self.sizes, len(self.class_names), on_progress),
            )
        except OSError as error:
            raise UserError(f"{directory} cannot be read: {error}") from error
        location = f"{folder} ({layout.title})"
        return Dataset(self.name, self, self.class_names, train, test, location, layout.published)

    def _find(self, directory: Path) -> tuple[Layout, Path]:
        """The layout that the directory holds, and the folder in which it begins."""
        for layout in self.layouts:
            if folder := layout.find(directory):
                return layout, folder
        if directory.is_dir():
            names = sorted(path.name for path in directory.iterdir())
            some = ", ".join(names[:5]) + ", ..." * (len(names) > 5)
            wrong = f"holds {some}" if names else "is empty"
        else:
            wrong = "is not a directory" if directory.exists() else "does not exist"
        raise UserError(
            f"no {self.title} found: the data directory {directory} {wrong}\n"
            f"accepted: {self._accepted}"
        )

    @property
    def _accepted(self) -> str:
        return " or ".join(layout.accepted() for layout in self.layouts)

    def _usual_directory(self) -> Path:
        """Where TFDS keeps its data; a set that is not there yet is downloaded.

        Raises:
          OSError: the download failed.
        """
        directory = Path(os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets").expanduser()
        if any(layout.find(directory) for layout in self.layouts):
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
                f"  1. --data-dir DIR with {self._accepted}\n"
                f"  2. put a TFDS copy in {directory}\n"
                "  3. connect to the network once: it is then downloaded there"
            ) from error
        return directory


_FILES = {"train": tuple(f"data_batch_{n}" for n in range(1, 6)), "test": ("test_batch",)}

CIFAR10 = CifarSet(
    name="cifar10",
    title="CIFAR-10 images",
    class_names=(
        "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck",
    ),
    # kuangliu/pytorch-cifar's constants, kept for the published protocol. Its standard deviation
    # is an average over images of each image's own; over all pixels it is (0.2470, 0.2435, 0.2616).
    mean=(0.4914, 0.4822, 0.4465),
    std=(0.2023, 0.1994, 0.2010),
    sizes={"train": 50_000, "test": 10_000},
    official=(
        PythonBatches("cifar-10-batches-py", _FILES, b"labels"),
        BinaryBatches("cifar-10-batches-bin", _FILES, 1),
    ),
)  # fmt: skip
