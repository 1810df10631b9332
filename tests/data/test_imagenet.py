"""ImageNet and other pictures in classes: their classes, their list, and damaged files."""

import errno
import os
import shutil
import warnings
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jaxresnet.data import picture_layouts, pictures
from jaxresnet.data.dataset import Dataset
from jaxresnet.data.imagenet import FOLDERS, IMAGENET, Pictures
from jaxresnet.data.pictures import EncodedImages
from jaxresnet.data.sources import ImageOptions, load_dataset
from jaxresnet.data.tensorflow import import_tfds
from jaxresnet.errors import UserError
from tests.data.picture_copies import (
    CLASSES,
    IMAGES,
    ignore_progress,
    load,
    make_splits,
    names,
    write_folders,
    write_kaggle,
)

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:tensorflow_datasets")


@pytest.fixture(autouse=True)
def _own_directories(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A cache, and a usual directory of TFDS."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "usual"))


def load_with(directory: Path, **options) -> Dataset:
    """By the options of the command line."""
    images = ImageOptions(data="folders", data_dir=directory, **options)
    return load_dataset(images, on_progress=ignore_progress, warn=pytest.fail)


def test_classes_are_numbered_as_tfds_and_torchvision_number_imagenets(tmp_path):
    classes = import_tfds().builder("imagenet2012").info.features["label"].names
    dataset = load(write_folders(tmp_path, make_splits()))
    assert list(dataset.class_names) == sorted(classes)


def test_folders_have_classes_of_their_own(tmp_path):
    root = write_folders(tmp_path / "flowers", make_splits(), test="test")
    dataset = load(root, FOLDERS)
    assert dataset.class_names == CLASSES
    assert dataset.title == "flowers images"
    np.testing.assert_array_equal(dataset.test.labels, [0, 0, 1, 1, 2, 2])
    (root / "train" / "n03445777").rename(root / "train" / "ball")
    (root / "test" / "n03445777").rename(root / "test" / "ball")
    assert load(root, FOLDERS).class_names == ("ball", *CLASSES[:2])
    with pytest.raises(UserError, match=r"such as ball: add --data folders"):
        load(root, IMAGENET)


def test_folders_here_go_by_the_directorys_name(tmp_path, monkeypatch):
    monkeypatch.chdir(write_folders(tmp_path / "flowers", make_splits()))
    assert load(Path(), FOLDERS).title == "flowers images"


def test_without_a_directory_there_is_advice(tmp_path):
    for source in (IMAGENET, FOLDERS):
        with pytest.raises(OSError, match=r"--data-dir DIR with class folders .*Kaggle"):
            load(None, source)


def test_the_list_is_made_once_and_opens_no_picture(tmp_path, monkeypatch):
    root = write_folders(tmp_path / "data", make_splits())
    monkeypatch.setattr(EncodedImages, "read", lambda *_: pytest.fail("read a picture"))
    first = load(root)
    monkeypatch.setattr(picture_layouts, "_files", lambda _: pytest.fail("listed again"))
    again = load(root, on_progress=lambda *_: pytest.fail("reported again"))
    assert again.fingerprint() == first.fingerprint()
    assert names(again.test) == names(first.test)
    assert again.class_names == first.class_names


def add_picture(root: Path) -> None:
    path = next(root.glob("train/*/*.JPEG"))
    shutil.copy(path, path.with_name("new.JPEG"))


def remove_picture(root: Path) -> None:
    next(root.glob("val/*/*.JPEG")).unlink()


def rename_picture(root: Path) -> None:
    path = next(root.glob("train/*/*.JPEG"))
    path.rename(path.with_name("new.JPEG"))


def add_class(root: Path) -> None:
    folder = root / "train" / "n02123045"
    folder.mkdir()
    shutil.copy(next(root.glob("train/*/*.JPEG")), folder)


def overwrite_picture_and_touch(root: Path) -> None:
    path = next(root.glob("train/*/*.JPEG"))
    path.write_bytes(path.read_bytes() + b"\0")
    path.parent.touch()


@pytest.mark.parametrize(
    "change",
    [add_picture, remove_picture, rename_picture, add_class, overwrite_picture_and_touch],
)
def test_the_list_is_made_anew_when_a_folder_changes(change, tmp_path):
    root = write_folders(tmp_path / "data", make_splits())
    for folder in root.rglob("*"):
        if folder.is_dir():
            os.utime(folder, (1, 1))  # the clock of file times is coarse
    before = load(root)
    change(root)
    after, direct = load(root), sorted(map(str, root.glob("*/*/*.JPEG")))
    assert sorted(names(after.train) + names(after.test)) == direct
    assert after.fingerprint() != before.fingerprint()


def test_the_list_is_made_anew_when_kaggles_table_changes(tmp_path):
    root = write_kaggle(tmp_path, make_splits())
    before, table = load(root), root / "LOC_val_solution.csv"
    table.write_text(table.read_text().replace("n01440764", "n03445777"))
    os.utime(table, (1, 1))
    assert before.test.labels.tolist() == [0, 0, 217, 217, 574, 574]
    assert load(root).test.labels.tolist() == [574, 574, 217, 217, 574, 574]


def test_the_fingerprint_is_of_names_sizes_and_labels(tmp_path, monkeypatch):
    caches = count()

    def fingerprint(source: Pictures = IMAGENET) -> str:
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / f"cache{next(caches)}"))
        return load(root, source).fingerprint()

    root = write_folders(tmp_path / "data", make_splits())
    first = fingerprint()
    root = root.rename(tmp_path / "elsewhere")
    path = next(root.glob("train/*/*.JPEG"))
    content = path.read_bytes()
    path.write_bytes(content[::-1])  # other pixels
    assert fingerprint() == first
    seen = [first]
    path.write_bytes(content + b"\0")  # another size
    seen.append(fingerprint())
    path.rename(path.with_name("other.JPEG"))  # another name
    seen.append(fingerprint())
    seen.append(fingerprint(FOLDERS))  # other labels
    assert len(set(seen)) == len(seen)


def damage(root: Path, *numbers: int) -> list[Path]:
    """Cuts those training pictures short."""
    paths = [sorted(root.glob("train/*/*"))[number] for number in numbers]
    for path in paths:
        path.write_bytes(path.read_bytes()[:250])
    return paths


def test_damaged_files_are_left_out_as_if_they_were_not_there(tmp_path, monkeypatch):
    root = write_folders(tmp_path / "data", make_splits())
    bad = [*damage(root, 1, 8), next(root.glob("val/*/*"))]
    bad[-1].write_text("not found")
    with pytest.warns(UserWarning, match="left out") as caught:
        left = load_with(root, skip_damaged=3)
    messages = [str(warning.message) for warning in caught]
    assert messages == [f"left out, since it cannot be decoded: {path}" for path in bad]
    assert left.left_out == tuple(map(str, bad))
    assert (len(left.train), len(left.test)) == (IMAGES["train"] - 2, IMAGES["test"] - 1)

    # Next time no others are decoded to find them.
    decode, decoded = pictures.take_view, []

    def recorded(images: EncodedImages, index: int, *others: Any) -> np.ndarray:
        decoded.append(images.name(index))
        return decode(images, index, *others)

    monkeypatch.setattr(pictures, "take_view", recorded)
    with pytest.warns(UserWarning, match="left out"):
        assert load_with(root, skip_damaged=5).fingerprint() == left.fingerprint()
    assert sorted(decoded) == sorted(map(str, bad))
    monkeypatch.undo()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "another cache"))
    for path in bad:
        path.unlink()
    without = load_with(root)
    assert without.fingerprint() == left.fingerprint()
    assert names(without.train) == names(left.train)
    np.testing.assert_array_equal(without.train.labels, left.train.labels)


def test_more_damaged_files_than_allowed_are_an_error(tmp_path):
    root = write_folders(tmp_path, make_splits())
    first, second = damage(root, 0, 5)
    with pytest.raises(
        UserError, match=r"2 files cannot be decoded, but --skip-damaged is 1:"
    ) as e:
        load_with(root, skip_damaged=1)
    assert str(first) in str(e.value)
    assert str(second) in str(e.value)


def test_a_picture_that_was_repaired_is_used_again(tmp_path):
    root = write_folders(tmp_path, make_splits())
    before = load_with(root)
    first, second = (sorted(root.glob("train/*/*"))[number] for number in (1, 8))
    whole = first.read_bytes()
    damage(root, 1, 8)
    with pytest.warns(UserWarning, match="left out"):
        assert load_with(root, skip_damaged=2).left_out == (str(first), str(second))
    first.write_bytes(whole)
    with pytest.warns(UserWarning, match="left out"):
        after = load_with(root, skip_damaged=2)
    assert after.left_out == (str(second),)
    assert names(after.train) == [name for name in names(before.train) if name != str(second)]


def test_a_copy_of_the_same_names_and_sizes_is_looked_through_by_itself(tmp_path):
    one, other = (write_folders(tmp_path / name, make_splits()) for name in ("one", "other"))
    for root, number in ((one, 0), (other, 5)):
        path = sorted(root.glob("train/*/*"))[number]
        path.write_bytes(bytes(path.stat().st_size))
        with pytest.warns(UserWarning, match="left out"):
            assert load_with(root, skip_damaged=1).left_out == (str(path),)


def open_none(*_: object) -> int:
    raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))


@pytest.mark.filterwarnings("ignore:left out")
@pytest.mark.parametrize("reason", ["No such file", "Too many open files"])
def test_a_file_that_cannot_be_opened_is_not_taken_for_damaged(reason, tmp_path, monkeypatch):
    root = write_folders(tmp_path, make_splits())
    path = next(root.glob("train/*/*"))
    load_with(root)  # makes the list
    with monkeypatch.context() as patch:
        if reason == "No such file":
            times = path.parent.stat()
            hidden = path.rename(tmp_path / "hidden")
            os.utime(path.parent, ns=(times.st_atime_ns, times.st_mtime_ns))
        else:
            hidden = path
            patch.setattr(pictures.os, "open", open_none)
        with pytest.raises(UserError, match=rf"\.JPEG cannot be read: {reason}"):
            load_with(root, skip_damaged=IMAGES["train"] + IMAGES["test"])
    hidden.rename(path)
    assert load_with(root, skip_damaged=1).left_out == ()


def test_a_missing_library_is_no_damage(tmp_path, monkeypatch):
    def import_nothing() -> None:
        raise UserError("tensorflow is not installed")

    root = write_folders(tmp_path, make_splits())
    monkeypatch.setattr(pictures, "import_tensorflow", import_nothing)
    with pytest.raises(UserError, match=r"^tensorflow is not installed$"):
        load_with(root, skip_damaged=IMAGES["train"] + IMAGES["test"])


def test_whole_sets_lose_nothing_to_skip_damaged(tmp_path):
    root = write_folders(tmp_path, make_splits())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert load_with(root, skip_damaged=9).fingerprint() == load_with(root).fingerprint()


def test_options_reach_the_pictures(tmp_path):
    root = write_folders(tmp_path, make_splits())
    dataset = load_with(root, train_images=5, eval_images=2, image_size=96, decode="fast")
    assert (len(dataset.train), len(dataset.test)) == (5, 2)
    assert (dataset.train.image_size, dataset.test.image_size) == (96, 96)
    assert isinstance(dataset.train.images, EncodedImages)
    assert dataset.train.images.fast
    everything = load_with(root)
    chosen = [names(everything.train).index(name) for name in names(dataset.train)]
    assert chosen == sorted(chosen)
    np.testing.assert_array_equal(dataset.train.labels, everything.train.labels[chosen])
    assert isinstance(everything.train.images, EncodedImages)
    assert not everything.train.images.fast
