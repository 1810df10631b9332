"""Small CIFAR sets, and writers of each of their layouts, from their descriptions."""

import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from jaxresnet.data.cifar import CIFAR10
from jaxresnet.data.cifar_layouts import (
    BinaryBatches,
    CifarSet,
    ClassFolders,
    OfficialFiles,
    PythonBatches,
    Tfds,
)
from jaxresnet.data.dataset import Split
from jaxresnet.data.sources import SOURCES
from jaxresnet.data.tensorflow import import_tensorflow, import_tfds

Splits = dict[str, Split]

# Ten training images and two test images of each class, of every set that there is.
SETS = {
    name: replace(cifar, sizes={"train": 10 * len(names), "test": 2 * len(names)})
    for name, cifar in SOURCES.items()
    if isinstance(cifar, CifarSet)
    for names in [cifar.class_names]
}
SMALL = SETS[CIFAR10.name]
SIZES = SMALL.sizes
PYTHON, BINARY = (layout.folder for layout in SMALL.layouts if isinstance(layout, OfficialFiles))


def make_splits(cifar: CifarSet = SMALL) -> Splits:
    rng, classes = np.random.default_rng(0), len(cifar.class_names)
    sizes = cifar.sizes.items()
    images = {n: rng.integers(0, 256, (size, 32, 32, 3), np.uint8) for n, size in sizes}
    return {n: Split(x, np.arange(len(x), dtype=np.int32) % classes) for n, x in images.items()}


def write(title: str, root: Path, splits: Splits | None = None, cifar: CifarSet = SMALL) -> Path:
    """Writes the set in its layout of that title, and returns the root."""
    layout = next(layout for layout in cifar.layouts if layout.title == title)
    _WRITERS[type(layout)](root, splits or make_splits(cifar), cifar, layout)
    return root


def _write_tfds(root: Path, splits: Splits, cifar: CifarSet, _: Tfds) -> None:
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
                "image": split.pixels[order],
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


def _official_files(root: Path, splits: Splits, layout: OfficialFiles):
    """(path, planes, labels) of each of the official files."""
    folder = root / layout.folder
    folder.mkdir(parents=True)
    for split, names in layout.files.items():
        images, labels = splits[split].pixels, splits[split].labels
        planes = images.transpose(0, 3, 1, 2).reshape(len(images), -1)
        parts = (np.split(each, len(names)) for each in (planes, labels))
        for name, *part in zip(names, *parts, strict=True):
            yield folder / name, *part


def _write_python(root: Path, splits: Splits, _: CifarSet, layout: PythonBatches) -> None:
    for path, planes, labels in _official_files(root, splits, layout):
        content = {b"data": planes, layout.label_key: labels.tolist()}
        path.write_bytes(pickle.dumps(content, protocol=2))


def _write_binary(root: Path, splits: Splits, _: CifarSet, layout: BinaryBatches) -> None:
    for path, planes, labels in _official_files(root, splits, layout):
        others = np.zeros((len(labels), layout.label_bytes - 1), np.uint8)
        rows = np.concatenate([others, labels[:, None].astype(np.uint8), planes], axis=1)
        path.write_bytes(rows.tobytes())


def _write_folders(root: Path, splits: Splits, cifar: CifarSet, _: ClassFolders) -> None:
    for name, split in splits.items():
        for index, (image, label) in enumerate(zip(split.pixels, split.labels, strict=True)):
            folder = root / name / cifar.class_names[label]
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(folder / f"{index:05d}.png")


_WRITERS = {
    Tfds: _write_tfds,
    PythonBatches: _write_python,
    BinaryBatches: _write_binary,
    ClassFolders: _write_folders,
}
