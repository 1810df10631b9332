"""Finds and reads the four layouts of CIFAR-10.

find_*(directory) returns the folder in which a layout begins, or None; `directory` may be that
folder or one above it. read_*(folder, on_progress) returns the (train, test) splits, all in the
order of the official files where the layout keeps it. They raise UserError naming the file and
what was expected when data are missing, cut short or damaged.
"""

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

import numpy as np

from jaxresnet.data.dataset import OnProgress, Split
from jaxresnet.data.tensorflow import import_tensorflow, import_tfds, native_messages_dropped
from jaxresnet.errors import UserError

CLASS_NAMES = (
    "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck",
)  # fmt: skip
SPLIT_SIZES = {"train": 50_000, "test": 10_000}

_BATCH_SIZE = 10_000
_PIXELS = 3 * 32 * 32
_TRAIN_BATCHES = tuple(f"data_batch_{number}" for number in range(1, 6))
_IMAGE_SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp"}
_DECODE_BATCH = 1_000


# --- TFDS -----------------------------------------------------------------------------------


def find_tfds(directory: Path) -> Path | None:
    for base in (directory / "cifar10", directory):
        candidates = [base, *sorted(base.glob("*.*.*"), reverse=True)]
        for candidate in candidates:
            if (candidate / "dataset_info.json").is_file():
                return candidate
    return None


def read_tfds(folder: Path, on_progress: OnProgress) -> tuple[Split, Split]:
    # TensorFlow's C++ complains of damaged records by itself; the error raised says it better.
    with native_messages_dropped():
        train = _read_tfds_split(folder, "train", on_progress)
        return train, _read_tfds_split(folder, "test", on_progress)


def _read_tfds_split(folder: Path, name: str, on_progress: OnProgress) -> Split:
    """TFDS stores images shuffled; sorting by 'id' restores the order of the official files."""
    tf, tfds = import_tensorflow(), import_tfds()
    try:
        builder = tfds.builder_from_directory(folder)
        examples = builder.as_dataset(
            split=name, decoders={"image": tfds.decode.SkipDecoding()}, shuffle_files=False
        )
        decoded = examples.map(
            lambda example: (
                example["id"],
                tf.ensure_shape(tf.io.decode_image(example["image"], 3), (32, 32, 3)),
                example["label"],
            ),
            num_parallel_calls=tf.data.AUTOTUNE,
        )
        ids, images, labels = _collect(decoded.batch(_DECODE_BATCH), name, on_progress)
    except Exception as error:  # protobuf, TensorFlow and TFDS each raise errors of their own
        what = type(error).__name__ if isinstance(error, tf.errors.OpError) else error
        raise UserError(
            f"{folder}: the {name} split cannot be read ({what}): it is cut short or damaged; "
            "fetch it again"
        ) from error
    _check_count(folder, f"{name} images", len(labels), SPLIT_SIZES[name])
    order = np.argsort(ids, kind="stable")
    return Split(images[order], labels[order].astype(np.int32))


def _collect(batches, name: str, on_progress: OnProgress) -> tuple[np.ndarray, ...]:
    """Iterates over batches of tuples and joins each element's parts."""
    parts: list[tuple[np.ndarray, ...]] = []
    done = 0
    for batch in batches.as_numpy_iterator():
        parts.append(batch)
        done += len(batch[0])
        on_progress(done, SPLIT_SIZES[name])
    if not parts:
        raise ValueError("it holds no records")
    return tuple(np.concatenate(column) for column in zip(*parts, strict=True))


# --- the official batches -------------------------------------------------------------------


def find_python(directory: Path) -> Path | None:
    return _find_batches(directory, "cifar-10-batches-py", suffix="")


def find_binary(directory: Path) -> Path | None:
    return _find_batches(directory, "cifar-10-batches-bin", suffix=".bin")


def _find_batches(directory: Path, name: str, suffix: str) -> Path | None:
    for folder in (directory / name, directory):
        if any((folder / f"{batch}{suffix}").is_file() for batch in _TRAIN_BATCHES):
            return folder
    return None


def read_python(folder: Path, on_progress: OnProgress) -> tuple[Split, Split]:
    return _read_batches(folder, "", _read_python_batch, on_progress)


def read_binary(folder: Path, on_progress: OnProgress) -> tuple[Split, Split]:
    return _read_batches(folder, ".bin", _read_binary_batch, on_progress)


def _read_batches(
    folder: Path,
    suffix: str,
    read: Callable[[Path], tuple[np.ndarray, np.ndarray]],
    on_progress: OnProgress,
) -> tuple[Split, Split]:
    splits = []
    for split, names in (("train", _TRAIN_BATCHES), ("test", ("test_batch",))):
        images, labels = [], []
        for number, name in enumerate(names, 1):
            path = folder / f"{name}{suffix}"
            if not path.is_file():
                raise UserError(f"{path} is missing: expected {', '.join(names)} in {folder}")
            pixels, batch_labels = read(path)
            _check_count(path, "images", len(pixels), _BATCH_SIZE)
            _check_count(path, "labels", len(batch_labels), _BATCH_SIZE)
            # Stored as three planes of 32 x 32: red, green, blue.
            images.append(pixels.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1))
            labels.append(batch_labels)
            on_progress(number * _BATCH_SIZE, SPLIT_SIZES[split])
        splits.append(Split(np.concatenate(images), np.concatenate(labels).astype(np.int32)))
    return splits[0], splits[1]


class _ArraysOnly(pickle.Unpickler):
    """Unpickles NumPy arrays and nothing else: a pickle can name any function to be called."""

    _ALLOWED: ClassVar = {
        ("numpy.core.multiarray", "_reconstruct"),
        ("numpy._core.multiarray", "_reconstruct"),
        ("numpy", "ndarray"),
        ("numpy", "dtype"),
        ("_codecs", "encode"),
    }

    def find_class(self, module_name: str, global_name: str, /):
        if (module_name, global_name) not in self._ALLOWED:
            raise pickle.UnpicklingError(f"refusing to load {module_name}.{global_name}")
        # Old pickles name NumPy's former module, whose use warns.
        return super().find_class(module_name.replace("numpy.core", "numpy._core"), global_name)


def _read_python_batch(path: Path) -> tuple[np.ndarray, np.ndarray]:
    try:
        with path.open("rb") as file:
            batch = _ArraysOnly(file, encoding="bytes").load()
        pixels = np.asarray(batch[b"data"], np.uint8).reshape(-1, _PIXELS)
        return pixels, np.asarray(batch[b"labels"], np.int64)
    except Exception as error:  # a damaged pickle can raise anything
        raise UserError(f"{path} is no CIFAR-10 python batch, or damaged: {error}") from error


def _read_binary_batch(path: Path) -> tuple[np.ndarray, np.ndarray]:
    content = np.fromfile(path, np.uint8)
    if content.size != _BATCH_SIZE * (1 + _PIXELS):
        raise UserError(
            f"{path} has {content.size:,} bytes, expected {_BATCH_SIZE * (1 + _PIXELS):,}: "
            "the data set is cut short or damaged; fetch it again"
        )
    records = content.reshape(_BATCH_SIZE, 1 + _PIXELS)
    return records[:, 1:], records[:, 0].astype(np.int64)


# --- class folders --------------------------------------------------------------------------


def find_folders(directory: Path) -> Path | None:
    return directory if (directory / "train").is_dir() and _test_folder(directory) else None


def folder_files(directory: Path) -> list[Path]:
    test = _test_folder(directory)
    assert test is not None
    return [path for split in (directory / "train", test) for path in _images_below(split)]


def read_folders(directory: Path, on_progress: OnProgress) -> tuple[Split, Split]:
    """Images by name within each class, class after class; any number of them."""
    test = _test_folder(directory)
    assert test is not None
    return _read_folder(directory / "train", on_progress), _read_folder(test, on_progress)


def _test_folder(directory: Path) -> Path | None:
    for name in ("test", "val"):
        if (directory / name).is_dir():
            return directory / name
    return None


def _images_below(split: Path) -> list[Path]:
    return sorted(path for path in split.glob("*/*") if path.suffix.lower() in _IMAGE_SUFFIXES)


def _read_folder(split: Path, on_progress: OnProgress) -> Split:
    tf = import_tensorflow()
    found = {path.name for path in split.iterdir() if path.is_dir()}
    if found != set(CLASS_NAMES):
        missing, other = sorted(set(CLASS_NAMES) - found), sorted(found - set(CLASS_NAMES))
        raise UserError(
            f"{split}: expected one folder for each class ({', '.join(CLASS_NAMES)}); "
            f"missing: {', '.join(missing) or 'none'}; unexpected: {', '.join(other) or 'none'}"
        )
    paths = _images_below(split)
    labels = np.array([CLASS_NAMES.index(path.parent.name) for path in paths], np.int32)
    for label, count in enumerate(np.bincount(labels, minlength=len(CLASS_NAMES))):
        if count == 0:
            raise UserError(f"{split / CLASS_NAMES[label]} holds no images")
    files = tf.data.Dataset.from_tensor_slices([str(path) for path in paths])
    decoded = files.map(
        lambda path: tf.io.decode_image(tf.io.read_file(path), 3, expand_animations=False),
        num_parallel_calls=tf.data.AUTOTUNE,
    )
    images = np.empty((len(paths), 32, 32, 3), np.uint8)
    iterator = decoded.as_numpy_iterator()
    for index, path in enumerate(paths):
        try:
            image = next(iterator)
        except tf.errors.OpError as error:
            raise UserError(f"{path} cannot be decoded: {error.message}") from error
        if image.shape != (32, 32, 3):
            raise UserError(f"{path} has shape {image.shape}, expected (32, 32, 3)")
        images[index] = image
        if (index + 1) % _DECODE_BATCH == 0 or index + 1 == len(paths):
            on_progress(index + 1, len(paths))
    return Split(images, labels)


def _check_count(path: Path, what: str, found: int, expected: int) -> None:
    if found != expected:
        raise UserError(
            f"{path} has {found:,} {what}, expected {expected:,}: "
            "the data set is cut short or damaged; fetch it again"
        )
