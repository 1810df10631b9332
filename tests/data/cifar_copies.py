"""Small CIFAR sets, and writers of each layout that people keep them in."""

import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from jaxresnet.data.cifar import CIFAR10, CifarSet
from jaxresnet.data.cifar_layouts import BinaryBatches, Layout, OfficialFiles, PythonBatches
from jaxresnet.data.dataset import Split
from jaxresnet.data.tensorflow import import_tensorflow, import_tfds

Splits = dict[str, Split]

SIZES = {"train": 100, "test": 20}
_FILES = {"train": ("train",), "test": ("test",)}
SETS = {
    "CIFAR-10": replace(CIFAR10, sizes=SIZES),
    # As CIFAR-100 is kept: a file for each split, with two labels for each image.
    "two labels": replace(
        CIFAR10,
        name="cifar100",
        title="CIFAR-100 images",
        sizes=SIZES,
        official=(
            PythonBatches("cifar-100-python", _FILES, b"fine_labels"),
            BinaryBatches("cifar-100-binary", _FILES, 2),
        ),
    ),
}
LAYOUTS = {layout.title: layout for layout in CIFAR10.layouts}


def make_splits() -> Splits:
    rng = np.random.default_rng(0)
    return {
        name: Split(
            rng.integers(0, 256, (size, 32, 32, 3), np.uint8),
            (np.arange(size) % 10).astype(np.int32),
        )
        for name, size in SIZES.items()
    }


def write(cifar: CifarSet, title: str, root: Path, splits: Splits | None = None) -> Path:
    """Writes the set in the layout of that title, and returns the root."""
    layout = next(layout for layout in cifar.layouts if layout.title == title)
    _WRITERS[title](cifar, layout, root, splits or make_splits())
    return root


def _write_tfds(cifar: CifarSet, _layout: Layout, root: Path, splits: Splits) -> None:
    """As tfds.load leaves it, its records out of order."""
    tf, tfds = import_tensorflow(), import_tfds()
    features = tfds.features.FeaturesDict(
        {
            "id": tfds.features.Text(),
            "image": tfds.features.Image(shape=(32, 32, 3)),
            "label": tfds.features.ClassLabel(names=list(cifar.class_names)),
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
        name=cifar.name,
        version="3.0.2",
        features=features,
        split_datasets={name: examples(name, split) for name, split in splits.items()},
        data_dir=root,
        disable_shuffling=True,
    )


def _official_files(layout: Layout, root: Path, splits: Splits):
    """(path, planes, labels) of each of the official files."""
    assert isinstance(layout, OfficialFiles)
    folder = root / layout.folder
    folder.mkdir(parents=True)
    for split, names in layout.names.items():
        planes = splits[split].images.transpose(0, 3, 1, 2).reshape(len(splits[split]), -1)
        parts = zip(
            np.split(planes, len(names)), np.split(splits[split].labels, len(names)), strict=True
        )
        for name, (part, labels) in zip(names, parts, strict=True):
            yield folder / f"{name}{layout.suffix}", part, labels


def _write_python(cifar: CifarSet, layout: Layout, root: Path, splits: Splits) -> None:
    for path, planes, labels in _official_files(layout, root, splits):
        key = {"cifar10": b"labels", "cifar100": b"fine_labels"}[cifar.name]
        content = {b"data": planes, b"coarse_labels": [99] * len(labels), key: labels.tolist()}
        path.write_bytes(pickle.dumps(content, protocol=2))


def _write_binary(cifar: CifarSet, layout: Layout, root: Path, splits: Splits) -> None:
    for path, planes, labels in _official_files(layout, root, splits):
        coarse = {"cifar10": 0, "cifar100": 1}[cifar.name]
        fill = np.full((len(labels), coarse), 99, np.uint8)
        rows = np.concatenate([fill, labels[:, None].astype(np.uint8), planes], axis=1)
        path.write_bytes(rows.tobytes())


def _write_folders(cifar: CifarSet, _layout: Layout, root: Path, splits: Splits) -> None:
    for name, split in splits.items():
        for index, (image, label) in enumerate(zip(split.images, split.labels, strict=True)):
            folder = root / name / cifar.class_names[label]
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(folder / f"{index:05d}.png")


_WRITERS: dict[str, Callable[[CifarSet, Layout, Path, Splits], None]] = {
    "TFDS": _write_tfds,
    "python batches": _write_python,
    "binary batches": _write_binary,
    "class folders": _write_folders,
}
