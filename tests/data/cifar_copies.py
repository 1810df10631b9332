"""A small CIFAR-10, and writers of each layout that people keep it in."""

import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from jaxresnet.data.cifar import CIFAR10
from jaxresnet.data.dataset import Split
from jaxresnet.data.tensorflow import import_tensorflow, import_tfds

Splits = dict[str, Split]

SIZES = {"train": 100, "test": 20}
SMALL = replace(CIFAR10, sizes=SIZES)
PYTHON, BINARY = "cifar-10-batches-py", "cifar-10-batches-bin"


def make_splits() -> Splits:
    rng = np.random.default_rng(0)
    images = {n: rng.integers(0, 256, (size, 32, 32, 3), np.uint8) for n, size in SIZES.items()}
    return {n: Split(x, np.arange(len(x), dtype=np.int32) % 10) for n, x in images.items()}


def write(layout: str, root: Path, splits: Splits | None = None) -> Path:
    """Writes the set in the layout of that title, and returns the root."""
    _WRITERS[layout](root, splits or make_splits())
    return root


def _write_tfds(root: Path, splits: Splits) -> None:
    """As tfds.load leaves it, its records out of order."""
    tf, tfds = import_tensorflow(), import_tfds()
    features = tfds.features.FeaturesDict(
        {
            "id": tfds.features.Text(),
            "image": tfds.features.Image(shape=(32, 32, 3)),
            "label": tfds.features.ClassLabel(names=list(CIFAR10.class_names)),
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
        split_datasets={name: examples(name, split) for name, split in splits.items()},
        data_dir=root,
        disable_shuffling=True,
    )


def _official_files(folder: Path, splits: Splits):
    """(path, planes, labels) of each of the official files."""
    folder.mkdir(parents=True)
    batches = {"train": [f"data_batch_{n}" for n in range(1, 6)], "test": ["test_batch"]}
    for split, names in batches.items():
        images, labels = splits[split].images, splits[split].labels
        planes = images.transpose(0, 3, 1, 2).reshape(len(images), -1)
        parts = (np.split(each, len(names)) for each in (planes, labels))
        for name, *part in zip(names, *parts, strict=True):
            yield folder / name, *part


def _write_python(root: Path, splits: Splits) -> None:
    for path, planes, labels in _official_files(root / PYTHON, splits):
        content = {b"data": planes, b"labels": labels.tolist()}
        path.write_bytes(pickle.dumps(content, protocol=2))


def _write_binary(root: Path, splits: Splits) -> None:
    for path, planes, labels in _official_files(root / BINARY, splits):
        rows = np.concatenate([labels[:, None].astype(np.uint8), planes], axis=1)
        path.with_suffix(".bin").write_bytes(rows.tobytes())


def _write_folders(root: Path, splits: Splits) -> None:
    for name, split in splits.items():
        for index, (image, label) in enumerate(zip(split.images, split.labels, strict=True)):
            folder = root / name / CIFAR10.class_names[label]
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(folder / f"{index:05d}.png")


_WRITERS = {
    "TFDS": _write_tfds,
    "python batches": _write_python,
    "binary batches": _write_binary,
    "class folders": _write_folders,
}
