"""Writes one small CIFAR-10 in each of the layouts that people keep it in."""

import pickle
from pathlib import Path

import numpy as np
import pytest

from jaxresnet.data import cifar10_formats as formats
from jaxresnet.data.dataset import Split
from jaxresnet.data.tensorflow import import_tensorflow, import_tfds

BATCH = 20  # images in each of the six official batches, instead of 10,000


def shrink(monkeypatch: pytest.MonkeyPatch) -> None:
    """Has the readers expect small batches."""
    monkeypatch.setattr(formats, "_BATCH_SIZE", BATCH)
    monkeypatch.setattr(formats, "SPLIT_SIZES", {"train": 5 * BATCH, "test": BATCH})


def make_splits() -> tuple[Split, Split]:
    generator = np.random.default_rng(0)

    def split(size: int) -> Split:
        images = generator.integers(0, 256, (size, 32, 32, 3), np.uint8)
        return Split(images, (np.arange(size) % 10).astype(np.int32))

    return split(5 * BATCH), split(BATCH)


def _batches(train: Split, test: Split):
    for number in range(5):
        part = slice(number * BATCH, (number + 1) * BATCH)
        yield f"data_batch_{number + 1}", Split(train.images[part], train.labels[part])
    yield "test_batch", test


def _planes(split: Split) -> np.ndarray:
    return split.images.transpose(0, 3, 1, 2).reshape(len(split), -1)


def write_python(root: Path, train: Split, test: Split) -> Path:
    folder = root / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    for name, split in _batches(train, test):
        content = {b"data": _planes(split), b"labels": [int(label) for label in split.labels]}
        (folder / name).write_bytes(pickle.dumps(content, protocol=2))
    return root


def write_binary(root: Path, train: Split, test: Split) -> Path:
    folder = root / "cifar-10-batches-bin"
    folder.mkdir(parents=True)
    for name, split in _batches(train, test):
        records = np.concatenate([split.labels[:, None].astype(np.uint8), _planes(split)], 1)
        (folder / f"{name}.bin").write_bytes(records.tobytes())
    return root


def write_folders(root: Path, train: Split, test: Split) -> Path:
    tf = import_tensorflow()
    for name, split in (("train", train), ("test", test)):
        for index, (image, label) in enumerate(zip(split.images, split.labels, strict=True)):
            folder = root / name / formats.CLASS_NAMES[label]
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"{index:05d}.png").write_bytes(tf.io.encode_png(image).numpy())
    return root


def write_tfds(root: Path, train: Split, test: Split) -> Path:
    """As tfds.load("cifar10") leaves it, its records out of order."""
    tf, tfds = import_tensorflow(), import_tfds()
    features = tfds.features.FeaturesDict(
        {
            "id": tfds.features.Text(),
            "image": tfds.features.Image(shape=(32, 32, 3)),
            "label": tfds.features.ClassLabel(names=list(formats.CLASS_NAMES)),
        }
    )

    def examples(name: str, split: Split):
        order = np.random.default_rng(1).permutation(len(split))
        return tf.data.Dataset.from_tensor_slices(
            {
                "id": [f"{name}_{index:05d}" for index in order],
                "image": split.images[order],
                "label": split.labels[order].astype(np.int64),
            }
        )

    tfds.dataset_builders.store_as_tfds_dataset(
        name="cifar10",
        version="3.0.2",
        features=features,
        split_datasets={"train": examples("train", train), "test": examples("test", test)},
        data_dir=root,
        disable_shuffling=True,
    )
    return root


WRITERS = {
    "TFDS": write_tfds,
    "python batches": write_python,
    "binary batches": write_binary,
    "class folders": write_folders,
}
