"""The layouts in which people keep a CIFAR set: each finds, lists and reads itself."""

import math
import pickle
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from PIL import Image

from jaxresnet.data.dataset import OnProgress, Split
from jaxresnet.data.tensorflow import import_tensorflow, import_tfds, native_messages_dropped
from jaxresnet.errors import UserError

_DAMAGED = "the data set is cut short or damaged; fetch it again"
_SHAPE = (32, 32, 3)
_PIXELS = math.prod(_SHAPE)
_IMAGE_SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp"}


class Layout(ABC):
    """A way to keep a CIFAR set.

    Attributes:
      title: for people.
      published: whether it holds the published images in their order, and no others.
    """

    title: ClassVar[str]
    published: ClassVar[bool] = True

    @abstractmethod
    def accepted(self) -> str:
        """How a message asks for the directory that `find` takes."""

    @abstractmethod
    def find(self, directory: Path) -> Path | None:
        """The folder in which the layout begins: the directory or one below it."""

    def files(self, folder: Path) -> Iterable[Path]:
        """The files to watch for changes."""
        return [path for path in folder.iterdir() if path.is_file()]

    @abstractmethod
    def read_split(self, folder: Path, split: str, size: int, on_progress: OnProgress) -> Split:
        """One of `sizes`, for `read`, which checks the number of images and the labels."""

    def read(
        self, folder: Path, sizes: Mapping[str, int], classes: int, on_progress: OnProgress
    ) -> Iterator[Split]:
        """The splits of those names and numbers of images, in order.

        Raises:
          UserError: files are missing, cut short or damaged.
        """
        for name, size in sizes.items():
            split = self.read_split(folder, name, size, on_progress)
            if self.published and len(split) != size:
                raise UserError(
                    f"{folder} has {len(split):,} {name} images, expected {size:,}: {_DAMAGED}"
                )
            wrong = np.flatnonzero((split.labels < 0) | (split.labels >= classes))
            if wrong.size:
                raise UserError(
                    f"{folder}: {name} image {wrong[0]} has label {split.labels[wrong[0]]}, "
                    f"expected 0 to {classes - 1}: {_DAMAGED}"
                )
            yield split


@dataclass(frozen=True)
class Tfds(Layout):
    """As tensorflow_datasets prepares the set of that name."""

    name: str
    title = "TFDS"

    def accepted(self) -> str:
        return f"a TFDS directory (holding {self.name})"

    def find(self, directory: Path) -> Path | None:
        for base in (directory / self.name, directory):
            for folder in (base, *sorted(base.glob("*.*.*"), reverse=True)):
                if any(folder.glob(f"{self.name}-train.*")):
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


@dataclass(frozen=True)
class OfficialFiles(Layout):
    """The files of the set's home page, those of a split of equal size.

    Attributes:
      folder: which the archive unpacks to.
      names: of the files by split, in order, without `suffix`.
    """

    folder: str
    names: Mapping[str, tuple[str, ...]]
    suffix: ClassVar[str] = ""

    @abstractmethod
    def read_file(self, path: Path, size: int) -> tuple[np.ndarray, np.ndarray]:
        """(size, 3072) uint8 planes of red, green and blue, and (size,) labels."""

    def accepted(self) -> str:
        return f"a folder with {self.folder}"

    def find(self, directory: Path) -> Path | None:
        for folder in (directory / self.folder, directory):
            if any((folder / f"{name}{self.suffix}").is_file() for name in self.names["train"]):
                return folder
        return None

    def read_split(self, folder: Path, split: str, size: int, on_progress: OnProgress) -> Split:
        names, parts = self.names[split], []
        for number, path in enumerate((folder / f"{name}{self.suffix}" for name in names), 1):
            if not path.is_file():
                raise UserError(f"{path} is missing: {self.title} have {len(names)} {split} files")
            parts.append(self.read_file(path, size // len(names)))
            on_progress(number * size // len(names), size)
        planes, labels = map(np.concatenate, zip(*parts, strict=True))
        images = planes.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
        return Split(np.ascontiguousarray(images), labels.astype(np.int32))


@dataclass(frozen=True)
class PythonBatches(OfficialFiles):
    """Pickled dictionaries, the labels under `label_key`."""

    label_key: bytes
    title = "python batches"

    def read_file(self, path: Path, size: int) -> tuple[np.ndarray, np.ndarray]:
        try:
            with path.open("rb") as file:
                batch = _ArraysOnly(file, encoding="bytes").load()
            planes = np.asarray(batch[b"data"], np.uint8).reshape(size, _PIXELS)
            return planes, np.asarray(batch[self.label_key]).reshape(size)
        except Exception as error:  # a damaged pickle can raise anything
            raise UserError(f"{path} is no CIFAR python batch, or damaged: {error}") from error


class _ArraysOnly(pickle.Unpickler):
    """Unpickles NumPy arrays and nothing else: a pickle can name any function to be called."""

    _ALLOWED: ClassVar = {
        ("numpy.core.multiarray", "_reconstruct"),
        ("numpy._core.multiarray", "_reconstruct"),
        ("numpy", "ndarray"),
        ("numpy", "dtype"),
        ("_codecs", "encode"),
    }

    def find_class(self, module_name: str, global_name: str, /) -> Any:
        if (module_name, global_name) not in self._ALLOWED:
            raise pickle.UnpicklingError(f"refusing to load {module_name}.{global_name}")
        # Old pickles name NumPy's former module, whose use warns.
        return super().find_class(module_name.replace("numpy.core", "numpy._core"), global_name)


@dataclass(frozen=True)
class BinaryBatches(OfficialFiles):
    """Records of `label_bytes` labels, of which the last counts, and the planes."""

    label_bytes: int
    title = "binary batches"
    suffix = ".bin"

    def read_file(self, path: Path, size: int) -> tuple[np.ndarray, np.ndarray]:
        content = np.fromfile(path, np.uint8)
        expected = size * (self.label_bytes + _PIXELS)
        if content.size != expected:
            raise UserError(f"{path} has {content.size:,} bytes, expected {expected:,}: {_DAMAGED}")
        records = content.reshape(size, -1)
        return records[:, self.label_bytes :], records[:, self.label_bytes - 1]


@dataclass(frozen=True)
class ClassFolders(Layout):
    """A folder of image files for each class: any number of them, by name, class after class."""

    class_names: tuple[str, ...]
    title = "class folders"
    published = False

    def accepted(self) -> str:
        first, *_, last = self.class_names
        return f"class folders of images (train/{first}/*.png ... test/{last}/*.png)"

    def find(self, directory: Path) -> Path | None:
        return directory if all(_folder(directory, s).is_dir() for s in ("train", "test")) else None

    def files(self, folder: Path) -> Iterable[Path]:
        return [path for split in ("train", "test") for path in _images_in(_folder(folder, split))]

    def read_split(self, folder: Path, split: str, size: int, on_progress: OnProgress) -> Split:
        paths = _images_in(_folder(folder, split))
        labels = [path.parent.name for path in paths]
        if wrong := sorted({*labels} ^ {*self.class_names}):
            raise UserError(
                f"{_folder(folder, split)}: expected a folder of images for each class "
                f"({', '.join(self.class_names)}); missing or unexpected: {', '.join(wrong)}"
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
        return Split(images, np.array([self.class_names.index(x) for x in labels], np.int32))


def _folder(directory: Path, split: str) -> Path:
    """ImageNet's name for the test images will do too."""
    validation = directory / "val"
    return validation if split == "test" and validation.is_dir() else directory / split


def _images_in(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("*/*") if path.suffix.lower() in _IMAGE_SUFFIXES)
