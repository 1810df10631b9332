"""The CIFAR sets from every layout, and what happens to damaged copies."""

import os
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from jaxresnet.data.cifar import CIFAR10
from jaxresnet.data.cifar_layouts import OfficialFiles
from jaxresnet.data.dataset import Dataset, Split
from jaxresnet.errors import UserError
from tests.data.cifar_copies import LAYOUTS, SETS, SIZES, make_splits, write

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:tensorflow_datasets")

SMALL = SETS["CIFAR-10"]
PYTHON, BINARY = "cifar-10-batches-py", "cifar-10-batches-bin"


@pytest.fixture(autouse=True)
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


def load(directory: Path, cifar=SMALL, on_progress=lambda done, total: None) -> Dataset:
    return cifar.load(directory, (None, None), on_progress)


def flip_bit(path: Path, position: int) -> None:
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_gives_the_same_images_and_labels(layout, name, tmp_path):
    progress = []
    root = write(SETS[name], layout, tmp_path / "data")
    dataset = load(root, SETS[name], lambda *counts: progress.append(counts))
    assert layout in dataset.location
    assert dataset.published == (layout != "class folders")
    assert {(size, size) for size in SIZES.values()} <= set(progress)
    for split, expected in zip((dataset.train, dataset.test), make_splits().values(), strict=True):
        order = slice(None)
        if layout == "class folders":
            order = np.argsort(expected.labels, kind="stable")
        np.testing.assert_array_equal(split.images, expected.images[order])
        np.testing.assert_array_equal(split.labels, expected.labels[order])
        assert (split.images.dtype, split.labels.dtype) == (np.uint8, np.int32)


@pytest.mark.parametrize(
    ("layout", "folder"),
    [("TFDS", "cifar10/3.0.2"), ("TFDS", "cifar10")]
    + [(x.title, x.folder) for x in CIFAR10.layouts if isinstance(x, OfficialFiles)],
)
def test_the_innermost_folder_will_do_too(layout, folder, tmp_path):
    root = write(SMALL, layout, tmp_path / "data")
    assert len(load(root / folder).train) == SIZES["train"]


@pytest.mark.parametrize("layout", ["TFDS", "python batches", "binary batches"])
def test_another_set_is_not_taken_for_this_one(layout, tmp_path):
    root = write(SETS["two labels"], layout, tmp_path / "data")
    for directory in (root, *(path for path in root.rglob("*") if path.is_dir())):
        with pytest.raises(UserError, match="no CIFAR-10 found"):
            load(directory)


def test_the_second_load_uses_the_decoded_copy(tmp_path):
    root = write(SMALL, "python batches", tmp_path / "data")
    first = load(root)

    def fail(done, total):
        raise AssertionError("decoded again")

    assert load(root, on_progress=fail).fingerprint() == first.fingerprint()


@pytest.mark.parametrize("damage", ["flipped bit", "cut short", "empty", "other content"])
def test_a_damaged_decoded_copy_is_made_anew(damage, tmp_path, cache):
    root = write(SMALL, "binary batches", tmp_path / "data")
    first = load(root)
    (copy,) = cache.rglob("*.npz")
    content = copy.read_bytes()
    {
        "flipped bit": lambda: flip_bit(copy, len(content) // 2),
        "cut short": lambda: copy.write_bytes(content[:1000]),
        "empty": lambda: copy.write_bytes(b""),
        "other content": lambda: copy.write_text("not an archive"),
    }[damage]()
    with pytest.warns(UserWarning, match="damaged"):
        assert load(root).fingerprint() == first.fingerprint()
    assert copy.read_bytes() == content


def test_abandoned_files_are_removed_and_others_are_left(tmp_path, cache):
    abandoned, recent = (cache / "jaxresnet" / name for name in ("abandoned.tmp", "recent.tmp"))
    abandoned.parent.mkdir(parents=True)
    abandoned.touch()
    recent.touch()
    os.utime(abandoned, (1, 1))
    load(write(SMALL, "binary batches", tmp_path / "data"))
    assert (abandoned.exists(), recent.exists()) == (False, True)


def test_changed_data_are_decoded_again(tmp_path):
    root = write(SMALL, "binary batches", tmp_path / "data")
    first = load(root)
    path = root / BINARY / "data_batch_1.bin"
    flip_bit(path, 5)
    os.utime(path, (1, 1))
    assert load(root).fingerprint() != first.fingerprint()


def test_a_cache_that_cannot_be_written_is_no_obstacle(tmp_path, monkeypatch):
    blocked = tmp_path / "file"
    blocked.touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(blocked))
    root = write(SMALL, "binary batches", tmp_path / "data")
    with pytest.warns(UserWarning, match="no decoded copy kept"):
        assert len(load(root).train) == SIZES["train"]


def test_directories_without_the_set_are_refused(tmp_path):
    with pytest.raises(UserError, match="does not exist"):
        load(tmp_path / "missing")
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(UserError, match="is empty") as error:
        load(empty)
    for layout in SMALL.layouts:
        assert layout.accepted() in str(error.value)
    (empty / "notes.txt").touch()
    with pytest.raises(UserError, match=r"holds notes\.txt"):
        load(empty)
    with pytest.raises(UserError, match="not a directory"):
        load(empty / "notes.txt")


def test_a_python_batch_cut_short_is_named(tmp_path):
    path = write(SMALL, "python batches", tmp_path) / PYTHON / "data_batch_3"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(UserError, match=r"data_batch_3 .*damaged"):
        load(tmp_path)
    path.write_bytes(pickle.dumps({b"data": np.zeros((3, 3072), np.uint8), b"labels": [1] * 3}))
    with pytest.raises(UserError, match=r"data_batch_3 .*damaged"):
        load(tmp_path)
    path.unlink()
    with pytest.raises(UserError, match="data_batch_3 is missing"):
        load(tmp_path)


def test_a_pickle_that_calls_functions_is_refused(tmp_path):
    path = write(SMALL, "python batches", tmp_path) / PYTHON / "data_batch_1"
    path.write_bytes(pickle.dumps({b"data": os.getcwd}))
    with pytest.raises(UserError, match="refusing to load"):
        load(tmp_path)


def test_a_binary_batch_cut_short_is_named(tmp_path):
    path = write(SMALL, "binary batches", tmp_path) / BINARY / "test_batch.bin"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(UserError, match=r"test_batch\.bin has 61,459 bytes, expected 61,460"):
        load(tmp_path)


@pytest.mark.parametrize("layout", ["python batches", "binary batches"])
def test_a_label_out_of_range_is_refused(layout, tmp_path):
    splits = make_splits()
    splits["train"].labels[1] = 10
    write(SMALL, layout, tmp_path, splits)
    with pytest.raises(UserError, match="train image 1 has label 10, expected 0 to 9"):
        load(tmp_path)


def test_a_damaged_tfds_record_is_reported(tmp_path):
    (path,) = write(SMALL, "TFDS", tmp_path).rglob("*train*tfrecord*")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(UserError, match="train split"):
        load(tmp_path)


def test_a_tfds_set_with_too_few_images_is_refused(tmp_path):
    splits = make_splits()
    splits["train"] = Split(splits["train"].images[:-1], splits["train"].labels[:-1])
    write(SMALL, "TFDS", tmp_path, splits)
    with pytest.raises(UserError, match="99 train images, expected 100"):
        load(tmp_path)


def test_class_folders_must_be_whole(tmp_path):
    image = write(SMALL, "class folders", tmp_path) / "train" / "cat" / "00003.png"
    content = image.read_bytes()
    image.write_bytes(content[:40])
    with pytest.raises(UserError, match=r"cat/00003\.png cannot be decoded"):
        load(tmp_path)
    image.write_bytes(content)
    (tmp_path / "test" / "dog").rename(tmp_path / "test" / "wolf")
    with pytest.raises(UserError, match=r"missing or unexpected: dog, wolf"):
        load(tmp_path)


def test_class_folders_hold_any_number_of_images_of_one_size(tmp_path):
    splits = {name: Split(s.images[:10], s.labels[:10]) for name, s in make_splits().items()}
    write(SMALL, "class folders", tmp_path, splits)
    (tmp_path / "test").rename(tmp_path / "val")
    assert len(load(tmp_path).train) == len(load(tmp_path).test) == 10
    splits["test"] = replace(splits["test"], images=splits["test"].images[:, :1, :1])
    write(SMALL, "class folders", tmp_path / "tiny", splits)
    with pytest.raises(UserError, match=r"has shape \(1, 1, 3\), expected \(32, 32, 3\)"):
        load(tmp_path / "tiny")
