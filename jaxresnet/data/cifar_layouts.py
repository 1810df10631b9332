"""The layouts in which people keep a CIFAR set: each finds and reads itself."""

import math
import pickle
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from PIL import Image

from jaxresnet.data.dataset import OnProgress, Source, Split
from jaxresnet.data.tensorflow import import_tensorflow, import_tfds, native_messages_dropped
from jaxresnet.errors import UserError

_SHAPE = (32, 32, 3)
_DAMAGED = "the data set is cut short or damaged; fetch it again"


@dataclass(frozen=True)
class CifarSet(Source):
    """One of the CIFAR sets: 32x32 images of some classes.

    Attributes:
      name: in SOURCES and in TFDS.
      layouts: the first that is found is read.
    """

    name: str
    class_names: tuple[str, ...]
    layouts: "tuple[Layout, ...]"


class Layout(ABC):
    """A way to keep the splits "train" and "test".

    Attributes:
      title: for people.
      published: whether it holds the published images in their order, and no others.
      watched: a pattern of the files to watch for changes.
    """

    title: ClassVar[str]
    published: ClassVar[bool] = True
    watched: ClassVar[str] = "*"

    @abstractmethod
    def accepted(self, cifar: CifarSet) -> str:
        """How a message asks for the directory that `find` takes."""

    @abstractmethod
    def find(self, cifar: CifarSet, directory: Path) -> Path | None:
        """The folder in which the layout begins: the directory or one below it."""

    @abstractmethod
    def read_split(
        self, cifar: CifarSet, folder: Path, split: str, on_progress: OnProgress
    ) -> Split:
        """A split, before the checks of `read`."""

    def read(self, cifar: CifarSet, folder: Path, on_progress: OnProgress) -> Iterator[Split]:
        """The training and the test images.

        Raises:
          UserError: files are missing, cut short or damaged.
        """
        classes = len(cifar.class_names)
        for name, size in cifar.sizes.items():
            split = self.read_split(cifar, folder, name, on_progress)
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


class Tfds(Layout):
    """As tensorflow_datasets prepares it."""

    title = "TFDS"

    def accepted(self, cifar: CifarSet) -> str:
        return f"a TFDS directory (holding {cifar.name})"

    def find(self, cifar: CifarSet, directory: Path) -> Path | None:
        for base in (directory / cifar.name, directory):
            for folder in (base, *sorted(base.glob("*.*.*"), reverse=True)):
                if any(folder.glob(f"{cifar.name}-train.*")):
                    return folder
        return None

    def read_split(
        self, cifar: CifarSet, folder: Path, split: str, on_progress: OnProgress
    ) -> Split:
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
                    on_progress(1_000 * number + len(batch["id"]), cifar.sizes[split])
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
    """The files of the home page, unpacked to `folder`, those of a split of equal size."""

    folder: str
    files: Mapping[str, Sequence[str]]  # of each split

    @abstractmethod
    def read_file(self, path: Path, size: int) -> tuple[np.ndarray, np.ndarray]:
        """(size, 3072) uint8 planes of red, green and blue, and (size,) labels."""

    def accepted(self, cifar: CifarSet) -> str:
        return f"a folder with {self.folder}"

    def find(self, cifar: CifarSet, directory: Path) -> Path | None:
        for folder in (directory / self.folder, directory):
            if any((folder / name).is_file() for name in self.files["train"]):
                return folder
        return None

    def read_split(
        self, cifar: CifarSet, folder: Path, split: str, on_progress: OnProgress
    ) -> Split:
        names, size, parts = self.files[split], cifar.sizes[split], []
        for number, name in enumerate(names, start=1):
            path = folder / name
            if not path.is_file():
                raise UserError(f"{path} is missing: {self.title} have {len(names)} {split} files")
            parts.append(self.read_file(path, size // len(names)))
            on_progress(number * size // len(names), size)
        planes, labels = map(np.concatenate, zip(*parts, strict=True))
        images = planes.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
        return Split(np.ascontiguousarray(images), labels.astype(np.int32))


@dataclass(frozen=True)
class PythonBatches(OfficialFiles):
    """Pickled dictionaries, which have the labels under a key."""

    label_key: bytes
    title = "python batches"

    def read_file(self, path: Path, size: int) -> tuple[np.ndarray, np.ndarray]:
        try:
            with path.open("rb") as file:
                batch = _ArraysOnly(file, encoding="bytes").load()
            planes = np.asarray(batch[b"data"], np.uint8).reshape(size, math.prod(_SHAPE))
            return planes, np.asarray(batch[self.label_key]).reshape(size)
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


@dataclass(frozen=True)
class BinaryBatches(OfficialFiles):
    """For each image some bytes, of which the last is the label, and the planes."""

    label_bytes: int
    title = "binary batches"

    def read_file(self, path: Path, size: int) -> tuple[np.ndarray, np.ndarray]:
        content = np.fromfile(path, np.uint8)
        expected = size * (self.label_bytes + math.prod(_SHAPE))
        if content.size != expected:
            raise UserError(f"{path} has {content.size:,} bytes, expected {expected:,}: {_DAMAGED}")
        records = content.reshape(size, -1)
        return records[:, self.label_bytes :], records[:, self.label_bytes - 1]


class ClassFolders(Layout):
    """A folder of image files for each class: any number of them, by name, class after class.

    The test images may go by ImageNet's name for them, val.
    """

    title = "class folders"
    published = False
    watched = "*/*/*"

    def accepted(self, cifar: CifarSet) -> str:
        first, last = cifar.class_names[0], cifar.class_names[-1]
        return f"class folders of images (train/{first}/*.png ... test/{last}/*.png)"

    def find(self, cifar: CifarSet, directory: Path) -> Path | None:
        train, test, val = ((directory / name).is_dir() for name in ("train", "test", "val"))
        return directory if train and (test or val) else None

    def read_split(
        self, cifar: CifarSet, folder: Path, split: str, on_progress: OnProgress
    ) -> Split:
        class_names = cifar.class_names
        root, val = folder / split, folder / "val"
        if split == "test" and val.is_dir():
            root = val
        suffixes = {".png", ".jpg", ".jpeg", ".bmp"}
        paths = sorted(path for path in root.glob("*/*") if path.suffix.lower() in suffixes)
        labels = [path.parent.name for path in paths]
        if wrong := sorted({*labels} ^ {*class_names}):
            raise UserError(
                f"{root}: expected a folder of images for each class ({', '.join(class_names)}); "
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
        return Split(images, np.array([class_names.index(label) for label in labels], np.int32))
