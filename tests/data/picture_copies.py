"""Small sets of pictures of many sizes and kinds, and writers of each of their layouts."""

import io
import json
from collections.abc import Mapping
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from jaxresnet.data.dataset import Dataset, OnProgress, Split
from jaxresnet.data.imagenet import IMAGENET, Pictures
from jaxresnet.data.pictures import EncodedImages
from jaxresnet.data.tensorflow import import_tfds

CLASSES = ("n01440764", "n02102040", "n03445777")  # of ImageNet, number 0, 217 and 574
TITLES = ("tench, Tinca tinca", "English springer, English springer spaniel", "golf ball")
SIZES = {"train": 4, "test": 2}  # pictures of each class
IMAGES = {split: size * len(CLASSES) for split, size in SIZES.items()}


class Picture(NamedTuple):
    """A file's content, and its class."""

    class_name: str
    content: bytes


Splits = Mapping[str, list[Picture]]


def smooth_image(width: int, height: int, seed: int = 0) -> Image.Image:
    """Colours that change slowly, as in photographs."""
    coarse = (height // 16 + 2, width // 16 + 2, 3)
    image = Image.fromarray(np.random.default_rng(seed).integers(0, 256, coarse, np.uint8))
    return image.resize((width, height), Image.Resampling.BICUBIC)


def encode(image: Image.Image, kind: str = "JPEG", **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def resampled(jpeg: bytes, factors: int, width: int, height: int) -> bytes:
    """A JPEG that says it has other sampling factors of brightness, and another size.

    Pillow cannot write them. The picture's blocks are put elsewhere, but it is whole if there are
    as many of them.
    """
    header = jpeg.index(b"\xff\xc0")
    content = bytearray(jpeg)
    content[header + 5 : header + 9] = height.to_bytes(2, "big") + width.to_bytes(2, "big")
    content[header + 11] = factors
    return bytes(content)


def as_file(content: bytes, directory: Path, name: str = "picture.JPEG") -> EncodedImages:
    """The only picture of a set."""
    (directory / name).write_bytes(content)
    lengths = np.array([len(content)], np.int64)
    return EncodedImages(directory, np.array([name.encode()]), np.zeros(1, np.int64), lengths)


def make_splits() -> Splits:
    """JPEGs, class after class, each of another size."""
    sides = Random(0)
    splits = {}
    for split, size in SIZES.items():
        splits[split] = [
            Picture(
                name, encode(smooth_image(sides.randint(40, 120), sides.randint(40, 120), seed))
            )
            for name in CLASSES
            for seed in range(size)
        ]
    return splits


def write_folders(root: Path, splits: Splits, test: str = "val") -> Path:
    """train/<class>/*.JPEG and <test>/<class>/*.JPEG, in ImageNet's order."""
    for split, folder in (("train", "train"), ("test", test)):
        for number, (name, content) in enumerate(splits[split]):
            (root / folder / name).mkdir(parents=True, exist_ok=True)
            (root / folder / name / f"{name}_{number:04d}.JPEG").write_bytes(content)
    return root


def write_kaggle_sorted(root: Path, splits: Splits) -> Path:
    """Kaggle's archive, its validation images sorted into folders."""
    write_folders(root / "ILSVRC" / "Data" / "CLS-LOC", splits)
    lines = [f"{name} {title}\n" for name, title in zip(CLASSES, TITLES, strict=True)]
    (root / "LOC_synset_mapping.txt").write_text("".join(lines))
    return root


def write_kaggle(root: Path, splits: Splits) -> Path:
    """Kaggle's archive as it unpacks, and the table with the validation images' classes."""
    write_kaggle_sorted(root, splits)
    val, rows = root / "ILSVRC" / "Data" / "CLS-LOC" / "val", ["ImageId,PredictionString"]
    for number, path in enumerate(sorted(val.glob("*/*")), 1):
        image = f"ILSVRC2012_val_{number:08d}"
        rows.append(f"{image},{path.parent.name} 85 1 499 272 {path.parent.name} 1 2 3 4 ")
        path.rename(val / f"{image}.JPEG")
    for folder in filter(Path.is_dir, list(val.iterdir())):
        folder.rmdir()
    # The table is in an order of its own.
    rows[1:] = rows[:0:-1]
    (root / "LOC_val_solution.csv").write_text("\n".join(rows) + "\n")
    return root


def write_tfds(
    root: Path,
    splits: Splits,
    name: str = "imagenet2012",
    test: str = "validation",
    encoding: str = "jpeg",
    label: str = "label",
) -> Path:
    """As tfds.load leaves it; where the label goes by another name, dataset_info.json says so."""
    tfds = import_tfds()
    features = tfds.features.FeaturesDict(
        {
            "file_name": tfds.features.Text(),
            "image": tfds.features.Image(encoding_format=encoding),
            label: tfds.features.ClassLabel(names=list(CLASSES)),
        }
    )
    examples = {
        tfds_name: [
            (number, {"file_name": f"{number}.JPEG", "image": each.content, label: each.class_name})
            for number, each in enumerate(splits[split])
        ]
        for split, tfds_name in (("train", "train"), ("test", test))
    }
    tfds.dataset_builders.store_as_tfds_dataset(
        name=name,
        version="5.1.0",
        features=features,
        split_datasets=examples,
        data_dir=root,
        disable_shuffling=True,
    )
    if label != "label":
        path = root / name / "5.1.0" / "dataset_info.json"
        keys = [{"featureKey": "image"}, {"featureKey": label}]
        info = {**json.loads(path.read_text()), "supervisedKeys": {"tuple": {"items": keys}}}
        path.write_text(json.dumps(info))
    return root


LAYOUTS = {
    "class folders": write_folders,
    "Kaggle's archive": write_kaggle,
    "Kaggle's archive, sorted": write_kaggle_sorted,
    "TFDS": write_tfds,
}


def ignore_progress(_done: int, _total: int) -> None:
    """For loading."""


def load(
    directory: Path | None, source: Pictures = IMAGENET, on_progress: OnProgress = ignore_progress
) -> Dataset:
    return source.load(directory, (None, None), on_progress)


def contents(split: Split) -> list[bytes]:
    """Of the files of a split's pictures."""
    assert isinstance(split.images, EncodedImages)
    return [split.images.read(index) for index in range(len(split))]


def names(split: Split) -> list[str]:
    """Of the files of a split's pictures."""
    assert isinstance(split.images, EncodedImages)
    return [split.images.name(index) for index in range(len(split))]
