"""Pictures in classes from every layout, and what happens to copies that are not whole."""

import os
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jaxresnet.data.imagenet import FOLDERS, IMAGENET
from jaxresnet.data.pictures import take_view
from jaxresnet.data.tensorflow import import_tfds
from jaxresnet.data.views import centre_crop
from jaxresnet.errors import UserError
from tests.data.picture_copies import (
    CLASSES,
    IMAGES,
    LAYOUTS,
    TITLES,
    Picture,
    contents,
    encode,
    load,
    make_splits,
    names,
    smooth_image,
    write_folders,
    write_kaggle,
    write_tfds,
)

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:tensorflow_datasets")
CLS_LOC = Path("ILSVRC", "Data", "CLS-LOC")


@pytest.fixture(autouse=True)
def _own_directories(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A cache, and a usual directory of TFDS."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "usual"))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_gives_the_same_pictures_and_labels(layout, tmp_path):
    splits, progress = make_splits(), []
    root = LAYOUTS[layout](tmp_path / "data", splits)
    dataset = load(root, on_progress=lambda *counts: progress.append(counts))
    assert (dataset.title, dataset.published) == ("ImageNet photographs", False)
    assert len(dataset.class_names) == 1_000
    for split, expected in ((dataset.train, splits["train"]), (dataset.test, splits["test"])):
        assert [*zip(split.labels.tolist(), contents(split), strict=True)] == [
            ({"n01440764": 0, "n02102040": 217, "n03445777": 574}[name], content)
            for name, content in expected
        ]
        assert (split.labels.dtype, split.image_size) == (np.int32, 224)
    total = progress[-1][1]
    assert progress == [(done, total) for done in range(1, total + 1)]
    title = CLASSES[1] if layout in ("class folders", "TFDS") else TITLES[1]
    assert dataset.class_names[217] == title
    assert ("TFDS" in dataset.location) == (layout == "TFDS")


def as_png(pictures: list[Picture]) -> list[Picture]:
    """Losslessly, since TFDS stores what it gets."""
    return [Picture(name, encode(smooth_image(50, 40, 7), "PNG")) for name, _ in pictures]


@pytest.mark.parametrize("source", [IMAGENET, FOLDERS])
def test_any_tfds_set_of_pictures_will_do(source, tmp_path):
    splits = {name: as_png(split) for name, split in make_splits().items()}
    write_tfds(tmp_path, splits, name="other", test="test", encoding="png", label="kind")
    for directory in (tmp_path, tmp_path / "other", tmp_path / "other" / "5.1.0"):
        dataset = load(directory, source)
        assert contents(dataset.train) == [content for _, content in splits["train"]]
    expected = np.asarray(smooth_image(50, 40, 7).resize((80, 64), Image.Resampling.BILINEAR))
    found = take_view(dataset.train.images, 3, 56, centre_crop)
    assert np.abs(found - expected[4:60, 12:68].astype(int)).max() <= 2
    # Its classes are all of ImageNet, as in folders of them.
    thousand = source is IMAGENET
    assert len(dataset.class_names) == (1_000 if thousand else len(CLASSES))
    assert dataset.title == ("ImageNet photographs" if thousand else "other images")


def test_a_tfds_set_of_other_classes_has_its_own(tmp_path):
    write_tfds(tmp_path, make_splits(), name="fish")
    labels = tmp_path / "fish" / "5.1.0" / "label.labels.txt"
    labels.write_text("tench\nspaniel\nball\n")
    dataset = load(tmp_path, IMAGENET)
    assert dataset.class_names == ("tench", "spaniel", "ball")
    assert (dataset.title, dataset.published) == ("fish images", False)


def test_imagenet_is_found_among_other_tfds_sets(tmp_path):
    splits = make_splits()
    for name in ("other", "imagenet2012"):
        write_tfds(tmp_path / "usual", splits, name=name)
    assert "imagenet2012" in load(None).location
    assert "imagenet2012" in load(tmp_path / "usual").location


def test_one_of_several_tfds_sets_must_be_given(tmp_path):
    splits = make_splits()
    for variant in ("imagenette", "imagewang"):
        write_tfds(tmp_path / variant, splits, name="full-size")
    names_of_both = r"\(imagenette/full-size, imagewang/full-size\)"
    with pytest.raises(UserError, match=rf"several .* {names_of_both}.* --data-dir .*imagenette/"):
        load(tmp_path)
    for variant in ("imagenette", "imagewang"):
        assert f"{variant}/full-size/5.1.0" in load(tmp_path / variant / "full-size").location


def test_prepared_sets_side_by_side_are_told_apart(tmp_path):
    for name in ("p256", "p320"):
        write_tfds(tmp_path / "of TFDS", make_splits(), name=name)
        (tmp_path / "of TFDS" / name / "5.1.0").rename(tmp_path / name)
    shutil.rmtree(tmp_path / "of TFDS")
    with pytest.raises(UserError, match=r"several .* \(p256, p320\).* --data-dir .*p256"):
        load(tmp_path)
    assert load(tmp_path / "p320", FOLDERS).title == "p320 images"


def test_the_newest_version_is_the_one_of_the_greatest_number(tmp_path):
    root = write_tfds(tmp_path, make_splits()) / "imagenet2012"
    for version in ("10.0.0", "9.12.0"):
        shutil.copytree(root / "5.1.0", root / version)
    assert "imagenet2012/10.0.0" in load(tmp_path).location


def test_other_files_and_empty_classes_do_not_matter(tmp_path):
    root = write_folders(tmp_path, make_splits())
    (root / "train" / CLASSES[0] / "notes.txt").touch()
    (root / "train" / "n02123045").mkdir()
    assert len(load(root).train) == IMAGES["train"]


@pytest.mark.parametrize("name", ["dot.in.name.jpg", "Große Ente.JPG", "x" * 200 + ".png"])
def test_files_may_have_any_name(name, tmp_path):
    root = write_folders(tmp_path, make_splits())
    path = next(root.glob("train/*/*.JPEG"))
    path = path.rename(path.with_name(name))
    train = load(root).train
    assert str(path) in names(train)
    assert path.read_bytes() in contents(train)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems' names are Unicode")
def test_classes_and_files_may_have_names_that_are_no_utf_8(tmp_path):
    root = write_folders(tmp_path / "data", make_splits())
    name = os.fsdecode(b"Gr\xfcn")  # Latin-1
    for split in ("train", "val"):
        (root / split / CLASSES[0]).rename(root / split / name)
    path = next((root / "train" / name).iterdir()).rename(root / "train" / name / f"{name}.jpg")
    for _ in range(2):  # the list, and its copy in the cache
        dataset = load(root, FOLDERS)
        assert dataset.class_ids == (name, *CLASSES[1:])
        assert str(path) in names(dataset.train)
        assert path.read_bytes() in contents(dataset.train)


def remove(*parts: str):
    def change(root: Path) -> None:
        path = root.joinpath(CLS_LOC, *parts)
        shutil.rmtree(path) if path.is_dir() else path.unlink()

    return change


def empty(split: str):
    def change(root: Path) -> None:
        for path in (root / CLS_LOC / split).rglob("*.JPEG"):
            path.unlink()

    return change


def write_table(text: str):
    return lambda root: (root / "LOC_val_solution.csv").write_text(text)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda root: (root / "LOC_val_solution.csv").unlink(), r"no LOC_val_solution\.csv beside"),
        (write_table("ImageId,PredictionString\n"), r"00000001\.JPEG is not in .*csv: fetch both"),
        (write_table("ImageId,PredictionString\nILSVRC2012_val_00000001\n"), r"csv is damaged"),
        (write_table("ImageId,PredictionString\nILSVRC2012_val_00000001, \n"), r"csv is damaged"),
        (write_table("<html>\nsign in\n"), r"csv is damaged: expected the columns ImageId"),
        (lambda root: (root / "LOC_val_solution.csv").write_bytes(b"\xff\xfe\0"), "csv is damaged"),
        (remove("val"), r"no ImageNet photographs found: .* holds .*\n.*accepted: class folders"),
        (remove("train"), r"no ImageNet photographs found"),
        (empty("val"), "there are no test images"),
        (empty("train"), "there are no train images"),
    ],
)  # fmt: skip
def test_an_incomplete_copy_of_kaggles_archive_is_refused(change, message, tmp_path):
    root = write_kaggle(tmp_path / "data", make_splits())
    change(root)
    with pytest.raises(UserError, match=message):
        load(root)


def test_test_images_of_other_classes_are_refused(tmp_path):
    root = write_folders(tmp_path, make_splits())
    (root / "val" / CLASSES[0]).rename(root / "val" / "wolf")
    for source in (IMAGENET, FOLDERS):
        with pytest.raises(UserError, match="test images are of unknown classes, such as wolf"):
            load(root, source)


@pytest.mark.parametrize("source", [IMAGENET, FOLDERS])
@pytest.mark.parametrize(
    ("directory", "message"),
    [("missing", "does not exist"), ("empty", "is empty"), ("notes.txt", "is not a directory")],
)
def test_directories_without_pictures_are_refused(directory, message, source, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes.txt").touch()
    with pytest.raises(UserError, match=rf"{directory} {message}\naccepted: .*Kaggle.*TFDS"):
        load(tmp_path / directory, source)


def test_a_tfds_set_of_other_things_is_refused(tmp_path):
    tfds = import_tfds()
    for name, kind in (("words", tfds.features.Text()), ("grades", tfds.features.Scalar(np.int64))):
        image = tfds.features.Image() if name == "grades" else kind
        label = tfds.features.ClassLabel(names=["a"]) if name == "words" else kind
        value = np.zeros((3, 3, 3), np.uint8) if name == "grades" else "a"
        tfds.dataset_builders.store_as_tfds_dataset(
            name=name,
            version="1.0.0",
            features=tfds.features.FeaturesDict({"image": image, "label": label}),
            split_datasets={"train": [(0, {"image": value, "label": 0})]},
            data_dir=tmp_path / name,
        )
        with pytest.raises(UserError, match="other things than images in classes"):
            load(tmp_path / name, FOLDERS)


def cut_shard(folder: Path) -> None:
    (shard,) = folder.glob("*-train.tfrecord*")
    shard.write_bytes(shard.read_bytes()[:-10])


def lose_shard(folder: Path) -> None:
    next(folder.glob("*-validation.tfrecord*")).unlink()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (cut_shard, r"train\.tfrecord-00000-of-00001 cannot be read as TFRecords"),
        (lose_shard, r"validation\.tfrecord-00000-of-00001 cannot be read as TFRecords"),
        (lambda folder: (folder / "dataset_info.json").write_text(""), "cannot be read as a TFDS"),
        (lambda folder: (folder / "features.json").write_text("{"), "cannot be read as a TFDS"),
        (lambda folder: (folder / "features.json").unlink(), "cannot be read as a TFDS"),
        (
            lambda folder: (folder / "label.labels.txt").write_text("a\n"),
            "unknown classes, such as",
        ),
    ],
)
def test_a_damaged_tfds_set_is_refused(change, message, tmp_path):
    write_tfds(tmp_path, make_splits())
    change(tmp_path / "imagenet2012" / "5.1.0")
    with pytest.raises(UserError, match=message) as error:
        load(tmp_path)
    assert "\n" not in str(error.value)


def test_a_tfds_set_without_test_images_is_refused(tmp_path):
    write_tfds(tmp_path, make_splits(), test="extra")
    with pytest.raises(UserError, match=r"the splits .*extra.*: expected train, and validation"):
        load(tmp_path)


def test_a_damaged_record_is_named_by_its_place(tmp_path):
    splits = make_splits()
    splits["train"][2] = Picture(CLASSES[0], splits["train"][2].content[:200])
    train = load(write_tfds(tmp_path, splits)).train
    with pytest.raises(UserError, match=r"train\.tfrecord-00000-of-00001 at byte [\d,]+ cannot be"):
        take_view(train.images, 2, 64, centre_crop)
    assert take_view(train.images, 3, 64, centre_crop).shape == (64, 64, 3)
