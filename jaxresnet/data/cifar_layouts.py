"""The layouts in which people keep CIFAR-10: each finds and reads itself."""

import math
import pickle
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from PIL import Image

from jaxresnet.data.dataset import OnProgress, Split
from jaxresnet.data.tensorflow import import_tensorflow, import_tfds, native_messages_dropped
from jaxresnet.errors import UserError

NAME = "cifar10"  # in SOURCES and in TFDS
CLASS_NAMES = (
    "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck",
)  # fmt: skip
_FILES = {"train": [f"data_batch_{n}" for n in range(1, 6)], "test": ["test_batch"]}
_SHAPE = (32, 32, 3)
_DAMAGED = "the data set is cut short or damaged; fetch it again"


class Layout(ABC):
    """A way to keep the splits "train" and "test".

    Attributes:
      title: for people.
      accepted: how a message asks for the directory that `find` takes.
      published: whether it holds the published images in their order, and no others.
      watched: a pattern of the files to watch for changes.
    """

    title: ClassVar[str]
    accepted: ClassVar[str]
    published: ClassVar[bool] = True
    watched: ClassVar[str] = "*"

    @abstractmethod
    def find(self, directory: Path) -> Path | None:
        """The folder in which the layout begins: the directory or one below it."""

    @abstractmethod
    def read_split(self, folder: Path, split: str, size: int, on_progress: OnProgress) -> Split:
        """A split, of `size` images if published, before the checks of `read`."""

    def read(
        self, folder: Path, sizes: Mapping[str, int], on_progress: OnProgress
    ) -> Iterator[Split]:
        """The splits of those names and numbers of images.

        Raises:
          UserError: files are missing, cut short or damaged.
        """
        for name, size in sizes.items():
            split = self.read_split(folder, name, size, on_progress)
            if self.published and len(split) != size:
                raise UserError(
                    f"{folder} has {len(split):,} {name} images, expected {size:,}: {_DAMAGED}"
                )
            wrong = np.flatnonzero((split.labels < 0) | (split.labels >= len(CLASS_NAMES)))
            if wrong.size:
                raise UserError(
                    f"{folder}: {name} image {wrong[0]} has label {split.labels[wrong[0]]}, "
                    f"expected 0 to {len(CLASS_NAMES) - 1}: {_DAMAGED}"
                )
            yield split


class Tfds(Layout):
    """As tensorflow_datasets prepares it."""

    title = "TFDS"
    accepted = f"a TFDS directory (holding {NAME})"

    def find(self, directory: Path) -> Path | None:
        for base in (directory / NAME, directory):
            for folder in (base, *sorted(base.glob("*.*.*"), reverse=True)):
                if any(folder.glob(f"{NAME}-train.*")):
                    return folder
        return None

    def read_split(self, folder: Path, split: str, size: int, on_progress: OnProgress) -> Split:
        """TFDS shuffles images; sorting by 'id' restores the order of the official files."""
        tf, tfds = import_tensorflow(), import_tfds()
        batches = []
        try:
            # TensorFlow's C++ complains of damaged records too; the error says it better.
            with native_messages_dropped():
                examples = tfds.builder_from_directory(folder).as_dataset(
                    split=split, batch_size=1_000, shuffle_files=False
                )
                for number, batch in enumerate(examples.as_numpy_iterator()):
                    batches.append((batch["id"], batch["image"], batch["label"]))
                    on_progress(1_000 * number + len(batch["id"]), size)
            ids, images, labels = map(np.concatenate, zip(*batches, strict=True))
        except Exception as error:  # protobuf, TensorFlow and TFDS each raise errors of their own
            reason = type(error).__name__ if isinstance(error, tf.errors.OpError) else error
            raise UserError(
                f"{folder}: the {split} split cannot be read ({reason}): {_DAMAGED}"
            ) from error
        order = np.argsort(ids, kind="stable")
        return Split(images[order], labels[order].astype(np.int32))


class OfficialFiles(Layout):
    """The files of the home page, unpacked to `folder`, those of a split of equal size."""

    folder: ClassVar[str]
    suffix: ClassVar[str]

    @abstractmethod
    def read_file(self, path: Path, size: int) -> tuple[np.ndarray, np.ndarray]:
        """(size, 3072) uint8 planes of red, green and blue, and (size,) labels."""

    def find(self, directory: Path) -> Path | None:
        for folder in (directory / self.folder, directory):
            if any((folder / f"{name}{self.suffix}").is_file() for name in _FILES["train"]):
                return folder
        return None

    def read_split(self, folder: Path, split: str, size: int, on_progress: OnProgress) -> Split:
        names, parts = _FILES[split], []
        for number, name in enumerate(names, start=1):
            path = folder / f"{name}{self.suffix}"
            if not path.is_file():
                raise UserError(f"{path} is missing: {self.title} have {len(names)} {split} files")
            parts.append(self.read_file(path, size // len(names)))
            on_progress(number * size // len(names), size)
        planes, labels = map(np.concatenate, zip(*parts, strict=True))
        images = planes.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
        return Split(np.ascontiguousarray(images), labels.astype(np.int32))


class PythonBatches(OfficialFiles):
    """Pickled dictionaries."""

    title = "python batches"
    folder = "cifar-10-batches-py"
    accepted = f"a folder with {folder}"
    suffix = ""

    def read_file(self, path: Path, size: int) -> tuple[np.ndarray, np.ndarray]:
        try:
            with path.open("rb") as file:
                batch = _ArraysOnly(file, encoding="bytes").load()
            planes = np.asarray(batch[b"data"], np.uint8).reshape(size, math.prod(_SHAPE))
            return planes, np.asarray(batch[b"labels"]).reshape(size)
        except Exception as error:  # a damaged pickle can raise anything
            raise UserError(f"{path} is no CIFAR python batch, or damaged: {error}") from error


class _ArraysOnly(pickle.Unpickler):
    """Unpickles NumPy arrays and nothing else: a pickle can name any function to be called."""

    def find_class(self, module_name: str, global_name: str, /) -> Any:
        # Old pickles name NumPy's former module, whose use warns.
        module_name = module_name.replace("numpy.core", "numpy._core")
        if (module_name, global_name) not in (
            ("numpy._core.multiarray", "_reconstruct"),
            ("numpy", "ndarray"),
            ("numpy", "dtype"),
            ("_codecs", "encode"),
        ):
            raise pickle.UnpicklingError(f"refusing to load {module_name}.{global_name}")
        return super().find_class(module_name, global_name)


class BinaryBatches(OfficialFiles):
    """For each image a byte, the label, and the planes."""

    title = "binary batches"
    folder = "cifar-10-batches-bin"
    accepted = f"a folder with {folder}"
    suffix = ".bin"

    def read_file(self, path: Path, size: int) -> tuple[np.ndarray, np.ndarray]:
        content = np.fromfile(path, np.uint8)
        expected = size * (1 + math.prod(_SHAPE))
        if content.size != expected:
            raise UserError(f"{path} has {content.size:,} bytes, expected {expected:,}: {_DAMAGED}")
        records = content.reshape(size, -1)
        return records[:, 1:], records[:, 0]


class ClassFolders(Layout):
    """A folder of image files for each class: any number of them, by name, class after class.

    The test images may go by ImageNet's name for them, val.
    """

    title = "class folders"
    accepted = (
        f"class folders of images (train/{CLASS_NAMES[0]}/*.png ... test/{CLASS_NAMES[-1]}/*.png)"
    )
    published = False
    watched = "*/*/*"

    def find(self, directory: Path) -> Path | None:
        train, test, val = ((directory / name).is_dir() for name in ("train", "test", "val"))
        return directory if train and (test or val) else None

    def read_split(self, folder: Path, split: str, size: int, on_progress: OnProgress) -> Split:
        root, val = folder / split, folder / "val"
        if split == "test" and val.is_dir():
            root = val
        suffixes = {".png", ".jpg", ".jpeg", ".bmp"}
        paths = sorted(path for path in root.glob("*/*") if path.suffix.lower() in suffixes)
        labels = [path.parent.name for path in paths]
        if wrong := sorted({*labels} ^ {*CLASS_NAMES}):
            raise UserError(
                f"{root}: expected a folder of images for each class ({', '.join(CLASS_NAMES)}); "
                f"missing or unexpected: {', '.join(wrong)}"
            )
        images = np.empty((len(paths), *_SHAPE), np.uint8)
        for index, path in enumerate(paths):
            try:
                with Image.open(path) as file:
                    image = np.asarray(file.convert("RGB"))
            except Exception as error:  # a damaged file can raise anything
                raise UserError(f"{path} cannot be decoded: {error}") from error
            if image.shape != _SHAPE:
                raise UserError(f"{path} has shape {image.shape}, expected {_SHAPE}")
            images[index] = image
            on_progress(index + 1, len(paths))
        return Split(images, np.array([CLASS_NAMES.index(label) for label in labels], np.int32))


# The first that is found is read.
LAYOUTS: tuple[Layout, ...] = (Tfds(), PythonBatches(), BinaryBatches(), ClassFolders())
