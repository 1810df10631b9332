"""prepare_images: what it writes is read as the original pictures are, only smaller."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from experiments import prepare_images
from jaxresnet.data.dataset import Dataset
from jaxresnet.data.imagenet import FOLDERS
from jaxresnet.data.pictures import EncodedImages
from jaxresnet.data.tensorflow import import_tfds
from tests.data import picture_copies
from tests.data.picture_copies import (
    CLASSES,
    IMAGES,
    SIZES,
    contents,
    encode,
    make_splits,
    write_folders,
)
from tests.experiments.running import command

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:tensorflow_datasets")

SHORT_SIDE = 48


@pytest.fixture
def originals(tmp_path, monkeypatch) -> Path:
    """Their prepared copies are written as records of two."""
    monkeypatch.setattr(prepare_images, "_IMAGES_IN_RECORD", 2)
    return write_folders(tmp_path / "originals", make_splits())


def prepare(originals: Path, *arguments: object) -> int:
    out = originals.with_name("prepared")
    return command(
        prepare_images.main,
        *("--data", "folders", "--data-dir", originals, "--out", out),
        *("--short-side", SHORT_SIDE, *arguments),
    )


def load(directory: Path) -> Dataset:
    return picture_copies.load(directory, FOLDERS)


def test_labels_and_order_are_kept_and_pictures_are_smaller(originals):
    assert prepare(originals) == 0
    before, after = load(originals), load(originals.with_name("prepared"))
    assert after.class_names == before.class_names == CLASSES
    assert not after.published
    for old, new in ((before.train, after.train), (before.test, after.test)):
        np.testing.assert_array_equal(new.labels, old.labels)
        for old_data, new_data in zip(contents(old), contents(new), strict=True):
            picture = Image.open(io.BytesIO(old_data))
            shorter = min(picture.size)
            if shorter <= SHORT_SIDE:
                assert new_data == old_data
                continue
            size = (picture.width * SHORT_SIDE // shorter, picture.height * SHORT_SIDE // shorter)
            expected = picture.resize(size, Image.Resampling.BILINEAR)
            assert new_data == encode(expected, quality=90)


def test_tfds_reads_the_set_and_knows_what_it_was_made_from(originals):
    assert prepare(originals, "--quality", 80) == 0
    builder = import_tfds().builder_from_directory(originals.with_name("prepared"))
    splits = builder.info.splits
    assert {name: (s.num_examples, s.num_shards) for name, s in splits.items()} == {
        "train": (IMAGES["train"], IMAGES["train"] / 2),
        "validation": (IMAGES["test"], IMAGES["test"] / 2),
    }
    for part in (str(originals), "48 pixels", "quality 80"):
        assert part in builder.info.description
    pictures = builder.as_dataset(split="validation", as_supervised=True).as_numpy_iterator()
    seen = [(min(image.shape[:2]), label) for image, label in pictures]
    shorter = [min(Image.open(io.BytesIO(each.content)).size) for each in make_splits()["test"]]
    labels = np.repeat(range(len(CLASSES)), SIZES["test"]).tolist()
    assert seen == [*zip([min(side, SHORT_SIDE) for side in shorter], labels, strict=True)]


def test_an_interrupted_start_is_continued(originals, monkeypatch, capsys):
    prepared, calls, shrink = originals.with_name("prepared"), [], prepare_images.shrink

    def interrupted(images: EncodedImages, index: int, **options: int) -> bytes:
        calls.append(index)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return shrink(images, index, **options)

    assert prepare(originals) == 0
    at_once = [*contents(load(prepared).train), *contents(load(prepared).test)]
    prepared.rename(prepared.with_name("at once"))
    monkeypatch.setattr(prepare_images, "shrink", interrupted)
    monkeypatch.setattr(prepare_images.platform, "cpu_threads", lambda: 1)
    assert prepare(originals) == 130
    assert not prepared.exists()
    assert prepare(originals, "--quality", 80) == 2
    assert "--quality: 90 there, 80 now" in capsys.readouterr().err
    assert prepare(originals) == 0
    assert calls.count(0) == calls.count(1) == 2  # once of each split
    assert [*contents(load(prepared).train), *contents(load(prepared).test)] == at_once
    assert prepare(originals) == 2
    assert "prepared exists: choose another name" in capsys.readouterr().err


@pytest.mark.filterwarnings("ignore:left out")
def test_a_damaged_file_is_named_or_left_out(originals, capsys):
    damaged = sorted((originals / "train" / CLASSES[1]).iterdir())[1]
    damaged.write_bytes(damaged.read_bytes()[:400])
    assert prepare(originals) == 2
    assert f"{damaged} cannot be decoded" in capsys.readouterr().err
    assert prepare(originals, "--fresh", "--skip-damaged", 1) == 0
    labels = load(originals.with_name("prepared")).train.labels.tolist()
    assert labels == [0] * 4 + [1] * 3 + [2] * 4


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--short-side", "0"), "--short-side must be at least 1"),
        (("--quality", "101"), "--quality must be at least 1 and below 101"),
        (("--data", "synthetic"), "give --data imagenet or folders"),
    ],
)
def test_bad_options_are_named(arguments, message, tmp_path, capsys):
    assert command(prepare_images.main, "--out", tmp_path / "prepared", *arguments) == 2
    assert message in capsys.readouterr().err
