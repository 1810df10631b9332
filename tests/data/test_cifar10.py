"""CIFAR-10 from every layout, and what happens to damaged copies."""

import os
import pickle
from pathlib import Path

import numpy as np
import pytest

from jaxresnet.data import cifar10, load
from jaxresnet.data.cifar10 import load_cifar10
from jaxresnet.errors import UserError
from tests.data.cifar10_copies import BATCH, WRITERS, make_splits, shrink

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:tensorflow_datasets")


@pytest.fixture(autouse=True)
def _small(monkeypatch, tmp_path):
    shrink(monkeypatch)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def no_progress(done: int, total: int) -> None:
    pass


def write(layout: str, root: Path) -> Path:
    return WRITERS[layout](root, *make_splits())


def by_class(split):
    """Images sorted by class and place, the order in which class folders keep them."""
    order = np.argsort(split.labels, kind="stable")
    return split.images[order], split.labels[order]


@pytest.mark.parametrize("layout", WRITERS)
def test_every_layout_gives_the_same_images_and_labels(layout, tmp_path):
    dataset = load_cifar10(write(layout, tmp_path / "data"), no_progress)
    assert layout in dataset.location
    for found, expected in zip((dataset.train, dataset.test), make_splits(), strict=True):
        wanted = expected.images, expected.labels
        if layout == "class folders":
            wanted = by_class(expected)
        np.testing.assert_array_equal(found.images, wanted[0])
        np.testing.assert_array_equal(found.labels, wanted[1])
        assert found.images.dtype == np.uint8
        assert found.labels.dtype == np.int32


@pytest.mark.parametrize(
    ("layout", "inner"),
    [
        ("TFDS", "cifar10/3.0.2"),
        ("TFDS", "cifar10"),
        ("python batches", "cifar-10-batches-py"),
        ("binary batches", "cifar-10-batches-bin"),
    ],
)
def test_the_innermost_folder_will_do_too(layout, inner, tmp_path):
    root = write(layout, tmp_path / "data")
    assert len(load_cifar10(root / inner, no_progress).train) == 5 * BATCH


def test_decoding_reports_progress(tmp_path):
    seen: list[tuple[int, int]] = []
    load_cifar10(write("TFDS", tmp_path / "data"), lambda *counts: seen.append(counts))
    assert (5 * BATCH, 5 * BATCH) in seen


def test_the_second_load_uses_the_decoded_copy(tmp_path):
    root = write("python batches", tmp_path / "data")
    first = load_cifar10(root, no_progress)

    def fail(done, total):
        raise AssertionError("decoded again")

    again = load_cifar10(root, fail)
    assert again.fingerprint() == first.fingerprint()


def test_a_damaged_decoded_copy_is_made_anew(tmp_path):
    root = write("binary batches", tmp_path / "data")
    first = load_cifar10(root, no_progress)
    (copy,) = (tmp_path / "cache").rglob("*.npz")
    content = bytearray(copy.read_bytes())
    content[len(content) // 2] ^= 1
    for damaged in (bytes(content), bytes(content[:1000])):
        copy.write_bytes(damaged)
        with pytest.warns(UserWarning, match="damaged"):
            assert load_cifar10(root, no_progress).fingerprint() == first.fingerprint()


def test_changed_data_are_decoded_again(tmp_path):
    root = write("binary batches", tmp_path / "data")
    first = load_cifar10(root, no_progress)
    path = root / "cifar-10-batches-bin" / "data_batch_1.bin"
    content = bytearray(path.read_bytes())
    content[5] ^= 1
    path.write_bytes(bytes(content))
    os.utime(path, (1, 1))
    assert load_cifar10(root, no_progress).fingerprint() != first.fingerprint()


def test_a_cache_that_cannot_be_written_is_no_obstacle(tmp_path, monkeypatch):
    blocked = tmp_path / "file"
    blocked.touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(blocked))
    root = write("binary batches", tmp_path / "data")
    with pytest.warns(UserWarning, match="no decoded copy kept"):
        assert len(load_cifar10(root, no_progress).train) == 5 * BATCH


def test_directories_without_cifar10_are_refused(tmp_path):
    with pytest.raises(UserError, match="does not exist"):
        load_cifar10(tmp_path / "missing", no_progress)
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(UserError, match=r"is empty(.|\n)*accepted.*TFDS.*class folders"):
        load_cifar10(empty, no_progress)
    (empty / "notes.txt").touch()
    with pytest.raises(UserError, match=r"holds notes\.txt"):
        load_cifar10(empty, no_progress)
    with pytest.raises(UserError, match="not a directory"):
        load_cifar10(empty / "notes.txt", no_progress)


def test_a_python_batch_cut_short_is_named(tmp_path):
    root = write("python batches", tmp_path / "data")
    path = root / "cifar-10-batches-py" / "data_batch_3"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(UserError, match="data_batch_3"):
        load_cifar10(root, no_progress)
    path.unlink()
    with pytest.raises(UserError, match="data_batch_3 is missing"):
        load_cifar10(root, no_progress)


def test_a_pickle_that_calls_functions_is_refused(tmp_path):
    root = write("python batches", tmp_path / "data")
    path = root / "cifar-10-batches-py" / "data_batch_1"
    path.write_bytes(pickle.dumps({b"data": os.getcwd}))
    with pytest.raises(UserError, match="refusing to load"):
        load_cifar10(root, no_progress)


def test_a_binary_batch_cut_short_is_named(tmp_path):
    root = write("binary batches", tmp_path / "data")
    path = root / "cifar-10-batches-bin" / "test_batch.bin"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(UserError, match=r"test_batch\.bin has 61,459 bytes, expected 61,460"):
        load_cifar10(root, no_progress)


def test_a_label_out_of_range_is_refused(tmp_path):
    root = write("binary batches", tmp_path / "data")
    path = root / "cifar-10-batches-bin" / "data_batch_1.bin"
    content = bytearray(path.read_bytes())
    content[3073] = 10
    path.write_bytes(bytes(content))
    with pytest.raises(UserError, match="train image 1 has label 10, expected 0 to 9"):
        load_cifar10(root, no_progress)


def test_a_damaged_tfds_record_is_reported(tmp_path):
    root = write("TFDS", tmp_path / "data")
    (path,) = root.rglob("*train*tfrecord*")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(UserError, match="train split"):
        load_cifar10(root, no_progress)


def test_a_tfds_set_with_too_few_images_is_refused(tmp_path):
    train, test = make_splits()
    short = type(train)(train.images[:-1], train.labels[:-1])
    root = WRITERS["TFDS"](tmp_path / "data", short, test)
    with pytest.raises(UserError, match="99 train images, expected 100"):
        load_cifar10(root, no_progress)


def test_class_folders_must_be_whole(tmp_path):
    root = write("class folders", tmp_path / "data")
    image = root / "train" / "cat" / "00003.png"
    content = image.read_bytes()
    image.write_bytes(content[:40])
    with pytest.raises(UserError, match=r"cat/00003\.png cannot be decoded"):
        load_cifar10(root, no_progress)
    image.write_bytes(content)
    (root / "test" / "dog").rename(root / "test" / "wolf")
    with pytest.raises(UserError, match=r"missing: dog; unexpected: wolf"):
        load_cifar10(root, no_progress)


def choose(choice, data_dir=None, train_images=None, messages=None):
    warn = (messages if messages is not None else []).append
    return load.load_dataset(
        choice, data_dir, train_images, None, on_progress=no_progress, warn=warn
    )


@pytest.fixture
def no_network(monkeypatch, tmp_path):
    """No usual directory, and a network that cannot be reached."""
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "none"))
    monkeypatch.setattr(cifar10, "_HOMEPAGE", "http://127.0.0.1:9/")


@pytest.mark.usefixtures("no_network")
def test_auto_falls_back_to_synthetic_images_and_says_so():
    messages: list[str] = []
    dataset = choose("auto", messages=messages)
    assert dataset.synthetic
    assert "synthetic images" in messages[0]


@pytest.mark.usefixtures("no_network")
def test_cifar10_never_falls_back_and_names_three_ways():
    with pytest.raises(UserError, match=r"three ways(.|\n)*1\.(.|\n)*2\.(.|\n)*3\."):
        choose("cifar10")


@pytest.mark.usefixtures("no_network")
def test_auto_with_a_directory_never_falls_back(tmp_path):
    with pytest.raises(UserError, match="does not exist"):
        choose("auto", tmp_path / "missing")


def test_the_usual_directory_is_used_without_being_named(tmp_path, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(write("TFDS", tmp_path / "usual")))
    assert not choose("auto").synthetic


def test_a_smaller_split_is_a_fixed_mixture(tmp_path):
    root = write("class folders", tmp_path / "data")
    first, again = choose("cifar10", root, 50), choose("cifar10", root, 50)
    assert len(first.train) == 50
    assert len(set(first.train.labels.tolist())) > 5
    np.testing.assert_array_equal(first.train.images, again.train.images)
    with pytest.raises(UserError, match=r"--train-images is 101, but .* only 100"):
        choose("cifar10", root, 101)
