"""The CIFAR sets from every layout, and what happens to damaged copies."""

import os
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jaxresnet.data.cifar import CIFAR10
from jaxresnet.data.cifar_layouts import BinaryBatches, PythonBatches
from jaxresnet.data.dataset import Dataset, Split
from jaxresnet.data.tensorflow import import_tfds
from jaxresnet.errors import UserError
from tests.data.cifar_copies import BINARY, PYTHON, SETS, SIZES, SMALL, make_splits, write

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:tensorflow_datasets")


@pytest.fixture(autouse=True)
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


def load(directory: Path, on_progress=lambda done, total: None, cifar=SMALL) -> Dataset:
    return cifar.load(directory, (None, None), on_progress)


def flip_bit(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


@pytest.mark.parametrize(
    ("name", "layout"),
    [(name, layout.title) for name, cifar in SETS.items() for layout in cifar.layouts],
)
def test_every_layout_gives_the_same_images_and_labels(name, layout, tmp_path):
    progress, cifar = [], SETS[name]
    root = write(layout, tmp_path / "data", cifar=cifar)
    dataset = load(root, lambda *counts: progress.append(counts), cifar)
    assert layout in dataset.location
    assert dataset.published == (layout != "class folders")
    assert {(size, size) for size in cifar.sizes.values()} <= set(progress)
    splits = make_splits(cifar).values()
    for split, expected in zip((dataset.train, dataset.test), splits, strict=True):
        order = slice(None)
        if layout == "class folders":
            order = np.argsort(expected.labels, kind="stable")
        np.testing.assert_array_equal(split.pixels, expected.pixels[order])
        np.testing.assert_array_equal(split.labels, expected.labels[order])
        assert (split.pixels.dtype, split.labels.dtype) == (np.uint8, np.int32)


@pytest.mark.parametrize("name", SETS)
def test_the_official_files_are_described_as_tfds_describes_them(name, tmp_path):
    builder: Any = import_tfds().builder(name, data_dir=tmp_path)
    cifar, expected = SETS[name], builder._cifar_info
    (binary,) = (layout for layout in cifar.layouts if isinstance(layout, BinaryBatches))
    (python,) = (layout for layout in cifar.layouts if isinstance(layout, PythonBatches))
    assert f"{binary.folder}/" == expected.prefix
    assert binary.files == {"train": expected.train_files, "test": expected.test_files}
    assert binary.label_bytes == len(expected.label_keys)
    assert python.label_key == (b"labels" if binary.label_bytes == 1 else b"fine_labels")
    assert len(cifar.class_names) == builder.info.features["label"].num_classes
    assert sorted(cifar.class_names) == list(cifar.class_names)  # as both official lists are


@pytest.mark.parametrize(
    ("layout", "folder"),
    [
        ("TFDS", "cifar10/3.0.2"),
        ("TFDS", "cifar10"),
        ("python batches", PYTHON),
        ("binary batches", BINARY),
    ],
)
def test_the_innermost_folder_will_do_too(layout, folder, tmp_path):
    root = write(layout, tmp_path / "data")
    assert len(load(root / folder).train) == SIZES["train"]


@pytest.mark.parametrize(
    "file",
    [
        "cifar100/3.0.2/cifar100-train.tfrecord-00000-of-00001",
        "cifar-100-python/train",
        "cifar-100-binary/train.bin",
    ],
)
def test_another_set_is_not_taken_for_this_one(file, tmp_path):
    path = tmp_path / file
    path.parent.mkdir(parents=True)
    path.touch()
    for directory in (tmp_path, *path.relative_to(tmp_path).parents):
        with pytest.raises(UserError, match="no CIFAR-10 images found"):
            load(tmp_path / directory)


def test_the_second_load_uses_the_decoded_copy(tmp_path):
    root = write("python batches", tmp_path / "data")
    first = load(root)

    def fail(done, total):
        raise AssertionError("decoded again")

    assert load(root, on_progress=fail).fingerprint() == first.fingerprint()


@pytest.mark.parametrize(
    "damage",
    [flip_bit, lambda content: content[:1000], lambda _: b"", lambda _: b"not an archive"],
    ids=["flipped bit", "cut short", "empty", "other content"],
)
def test_a_damaged_decoded_copy_is_made_anew(damage, tmp_path, cache):
    root = write("binary batches", tmp_path / "data")
    first = load(root)
    (copy,) = cache.rglob("*.npz")
    content = copy.read_bytes()
    copy.write_bytes(damage(content))
    with pytest.warns(UserWarning, match="damaged"):
        assert load(root).fingerprint() == first.fingerprint()
    assert copy.read_bytes() == content


def test_abandoned_files_are_removed_and_others_are_left(tmp_path, cache):
    abandoned, recent = (cache / "jaxresnet" / name for name in ("abandoned.tmp", "recent.tmp"))
    abandoned.parent.mkdir(parents=True)
    abandoned.touch()
    recent.touch()
    os.utime(abandoned, (1, 1))
    load(write("binary batches", tmp_path / "data"))
    assert (abandoned.exists(), recent.exists()) == (False, True)


def test_changed_data_are_decoded_again(tmp_path):
    root = write("binary batches", tmp_path / "data")
    first = load(root)
    path = root / BINARY / "data_batch_1.bin"
    path.write_bytes(flip_bit(path.read_bytes()))
    os.utime(path, (1, 1))
    assert load(root).fingerprint() != first.fingerprint()


def test_a_cache_that_cannot_be_written_is_no_obstacle(tmp_path, monkeypatch):
    blocked = tmp_path / "file"
    blocked.touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(blocked))
    root = write("binary batches", tmp_path / "data")
    with pytest.warns(UserWarning, match="no copy kept"):
        assert len(load(root).train) == SIZES["train"]


@pytest.mark.parametrize(
    ("directory", "message"),
    [
        ("missing", "does not exist"),
        ("data/empty", "is empty"),
        ("data", r"holds empty, notes\.txt"),
        ("data/notes.txt", "not a directory"),
    ],
)
def test_directories_without_the_set_are_refused(directory, message, tmp_path):
    (tmp_path / "data" / "empty").mkdir(parents=True)
    (tmp_path / "data" / "notes.txt").touch()
    with pytest.raises(UserError, match=message) as error:
        load(tmp_path / directory)
    assert all(layout.accepted(CIFAR10) in str(error.value) for layout in CIFAR10.layouts)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"no pickle", "damaged"),
        (pickle.dumps({b"data": np.zeros((3, 3072), np.uint8), b"labels": [1] * 3}), "damaged"),
        (pickle.dumps({b"data": os.getcwd}), "refusing to load"),  # it could call any function
        (None, "is missing"),
    ],
)
def test_a_damaged_python_batch_is_named(content, message, tmp_path):
    path = write("python batches", tmp_path) / PYTHON / "data_batch_3"
    path.write_bytes(content) if content else path.unlink()
    with pytest.raises(UserError, match=f"data_batch_3 .*{message}"):
        load(tmp_path)


def test_a_binary_batch_cut_short_is_named(tmp_path):
    path = write("binary batches", tmp_path) / BINARY / "test_batch.bin"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(UserError, match=r"test_batch\.bin has 61,459 bytes, expected 61,460"):
        load(tmp_path)


@pytest.mark.parametrize("layout", ["python batches", "binary batches"])
def test_a_label_out_of_range_is_refused(layout, tmp_path):
    splits = make_splits()
    splits["train"].labels[1] = 10
    write(layout, tmp_path, splits)
    with pytest.raises(UserError, match="train image 1 has label 10, expected 0 to 9"):
        load(tmp_path)


def test_a_damaged_tfds_record_is_reported(tmp_path):
    (path,) = write("TFDS", tmp_path).rglob("*train*tfrecord*")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(UserError, match="train split"):
        load(tmp_path)


def test_a_tfds_set_with_too_few_images_is_refused(tmp_path):
    splits = make_splits()
    splits["train"] = Split(splits["train"].pixels[:-1], splits["train"].labels[:-1])
    write("TFDS", tmp_path, splits)
    with pytest.raises(UserError, match="99 train images, expected 100"):
        load(tmp_path)


def test_class_folders_must_be_whole(tmp_path):
    image = write("class folders", tmp_path) / "train" / "cat" / "00003.png"
    content = image.read_bytes()
    image.write_bytes(content[:40])
    with pytest.raises(UserError, match=r"cat/00003\.png cannot be decoded"):
        load(tmp_path)
    image.write_bytes(content)
    (tmp_path / "test" / "dog").rename(tmp_path / "test" / "wolf")
    with pytest.raises(UserError, match=r"missing or unexpected: dog, wolf"):
        load(tmp_path)


def test_class_folders_hold_any_number_of_images_of_one_size(tmp_path):
    splits = {name: Split(s.pixels[:10], s.labels[:10]) for name, s in make_splits().items()}
    write("class folders", tmp_path, splits)
    (tmp_path / "test").rename(tmp_path / "val")
    assert len(load(tmp_path).train) == len(load(tmp_path).test) == 10
    splits["test"] = replace(splits["test"], images=splits["test"].pixels[:, :1, :1])
    write("class folders", tmp_path / "tiny", splits)
    with pytest.raises(UserError, match=r"has shape \(1, 1, 3\), expected \(32, 32, 3\)"):
        load(tmp_path / "tiny")
