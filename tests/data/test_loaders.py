"""Batches: the same from every loader with any number of workers, whole, and as PyTorch crops."""

import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from threading import Barrier
from typing import Any

import jax
import numpy as np
import pytest

from jaxresnet.data import picture_loader
from jaxresnet.data.augment import AUGMENTATIONS, JAX, plan_epoch
from jaxresnet.data.dataset import Split
from jaxresnet.data.imagenet import FOLDERS
from jaxresnet.data.loader_base import Loader, Workers
from jaxresnet.data.loaders import LOADERS, LoaderOptions, WorkerOptions, eval_batches
from jaxresnet.data.pictures import take_view
from jaxresnet.data.views import centre_crop, random_resized_crop
from jaxresnet.errors import UserError
from jaxresnet.random import generator
from tests.data.picture_copies import load, make_splits, write_folders

SIZE, BATCH, SEED, EPOCH = 200, 32, 7, 1
VARIANTS: list[tuple[str, Workers]] = [
    (name, workers)
    for name, kind in LOADERS.items()
    for workers in ((0, 1, 2, 5, "auto") if kind.has_workers else (LoaderOptions().workers,))
]


@pytest.fixture(scope="module")
def split() -> Split:
    """Random images; the label is the image's index, so that it can be followed."""
    images = np.random.default_rng(0).integers(0, 256, (SIZE, 32, 32, 3), np.uint8)
    return Split(images, np.arange(SIZE, dtype=np.int32))


def shapes(arguments):
    return jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), tuple(arguments))


def collect(loader: Loader, first_batch: int = 0) -> list[tuple[np.ndarray, np.ndarray]]:
    read = jax.jit(loader.read)
    batches = [read(*arguments) for arguments in loader.epoch(EPOCH, first_batch)]
    return [(np.asarray(batch.images), np.asarray(batch.labels)) for batch in batches]


@pytest.mark.parametrize("augmentation", [name for name, a in AUGMENTATIONS.items() if a.apply])
@pytest.mark.parametrize(("name", "workers"), VARIANTS)
def test_every_loader_gives_the_batches_of_the_plan_from_any_batch_on(
    split, name, workers, augmentation
):
    augment = AUGMENTATIONS[augmentation]
    loader = LoaderOptions(loader=name, workers=workers).create(split, augment, BATCH, SEED)
    assert shapes(loader.arguments(BATCH)) == shapes(next(loader.epoch(EPOCH)))
    plan = plan_epoch(augment, SEED, EPOCH, SIZE)
    assert augment.apply is not None
    everything = augment.apply(JAX, split.pixels, plan.draws)
    for first_batch in (0, 4):
        batches = collect(loader, first_batch)
        sizes = [BATCH] * (SIZE // BATCH - first_batch) + [SIZE % BATCH]
        assert [len(labels) for _, labels in batches] == sizes
        expected = plan.order[first_batch * BATCH :]
        images, labels = map(np.concatenate, zip(*batches, strict=True))
        np.testing.assert_array_equal(labels, expected)
        np.testing.assert_array_equal(images, everything[expected])
        assert (images.dtype, labels.dtype) == (np.uint8, np.int32)


def test_evaluation_pads_the_last_batch_and_masks_the_padding(split):
    batches = list(eval_batches(split, BATCH, WorkerOptions()))
    assert {batch.images.shape for batch, _ in batches} == {(BATCH, 32, 32, 3)}
    labels = np.concatenate([np.asarray(batch.labels)[mask] for batch, mask in batches])
    images = np.concatenate([np.asarray(batch.images)[mask] for batch, mask in batches])
    np.testing.assert_array_equal(labels, split.labels)
    np.testing.assert_array_equal(images, split.pixels)


SEEN, PER_BATCH = 48, 5  # pixels a side; pictures
CROP = AUGMENTATIONS["resized-crop"]


@pytest.fixture(scope="module")
def pictures(tmp_path_factory) -> Split:
    """Twelve pictures in files; the label is the picture's index."""
    root = write_folders(tmp_path_factory.mktemp("pictures"), make_splits())
    split = load(root, FOLDERS).train
    return replace(split, labels=np.arange(len(split), dtype=np.int32), size=SEEN)


def expected_views(split: Split) -> np.ndarray:
    """What the loaders say that they do, one picture after the other."""

    def view(index: int) -> np.ndarray:
        draw = generator("view", SEED, EPOCH, index)
        choose = lambda width, height, _size: random_resized_crop(draw, width, height)  # noqa: E731
        return take_view(split.images, index, split.image_size, choose)

    return np.stack([view(index) for index in range(len(split))])


@pytest.mark.parametrize("workers", [0, 1, 2, "auto"])
def test_pictures_come_in_the_same_batches_whatever_the_workers(pictures, workers):
    loader = LoaderOptions(workers=workers).create(pictures, CROP, PER_BATCH, SEED)
    assert shapes(loader.arguments(PER_BATCH)) == shapes(next(loader.epoch(EPOCH)))
    order, views = plan_epoch(CROP, SEED, EPOCH, len(pictures)).order, expected_views(pictures)
    for first_batch in (0, 1, 2):
        batches = collect(loader, first_batch)
        assert [len(labels) for _, labels in batches] == [5, 5, 2][first_batch:]
        images, labels = map(np.concatenate, zip(*batches, strict=True))
        np.testing.assert_array_equal(labels, order[first_batch * PER_BATCH :])
        np.testing.assert_array_equal(images, views[labels])


def test_a_pictures_view_is_another_in_every_epoch_and_with_every_seed(pictures):
    def first_view(seed: int, epoch: int) -> np.ndarray:
        loader = LoaderOptions().create(pictures, CROP, len(pictures), seed)
        ((images, labels),) = loader.epoch(epoch)
        return images[np.argmin(labels)]

    views = [first_view(seed, epoch) for seed in (0, 1) for epoch in (0, 1)]
    assert len({view.tobytes() for view in views}) == len(views)


@pytest.mark.parametrize("workers", [0, 2])
def test_evaluation_of_pictures_is_in_order_and_padded(pictures, workers):
    batches = list(eval_batches(pictures, PER_BATCH, WorkerOptions(workers=workers)))
    assert {batch.images.shape for batch, _ in batches} == {(PER_BATCH, SEEN, SEEN, 3)}
    assert [mask.tolist() for _, mask in batches] == [[True] * 5] * 2 + [[True] * 2 + [False] * 3]
    labels = np.concatenate([np.asarray(batch.labels)[mask] for batch, mask in batches])
    images = np.concatenate([np.asarray(batch.images)[mask] for batch, mask in batches])
    np.testing.assert_array_equal(labels, pictures.labels)
    for index, image in enumerate(images):
        np.testing.assert_array_equal(image, take_view(pictures.images, index, SEEN, centre_crop))


@pytest.mark.parametrize("workers", [1, 3, "auto"])
def test_as_many_pictures_are_read_at_once_as_there_are_workers(split, workers, monkeypatch):
    """auto: as there are cores."""
    monkeypatch.setattr(picture_loader.platform, "cpu_threads", lambda: 4)
    count = 4 if workers == "auto" else workers
    together, reading, most = Barrier(count, timeout=30), set[int](), list[int]()

    def take_view(images: np.ndarray, index: int, *_: Any) -> np.ndarray:
        reading.add(index)
        most.append(len(reading))
        together.wait()  # raises if too few workers come
        reading.remove(index)
        return images[index]

    monkeypatch.setattr(picture_loader, "take_view", take_view)
    images = split.choose(np.arange(count * 48))
    loader = LoaderOptions(workers=workers).create(images, CROP, len(images), SEED)
    ((pixels, labels),) = loader.epoch(EPOCH)
    np.testing.assert_array_equal(pixels, images.pixels[labels])
    assert max(most) == count


@pytest.mark.parametrize(
    ("workers", "prefetch", "ahead"), [(0, 5, 0), (1, 0, 1), (1, 2, 3), (2, 2, 3), ("auto", 4, 5)]
)
def test_no_more_batches_are_begun_than_prefetch_and_one(
    split, workers, prefetch, ahead, monkeypatch
):
    read: list[int] = []

    def take_view(images: np.ndarray, index: int, *_: Any) -> np.ndarray:
        read.append(index)
        return images[index]

    monkeypatch.setattr(picture_loader, "take_view", take_view)
    loader = LoaderOptions(workers=workers, prefetch=prefetch).create(split, CROP, 10, SEED)
    batches = loader.epoch(EPOCH)
    for number in range(1, 4):
        next(batches)
        expected, deadline = 10 * (number + ahead), time.monotonic() + 30
        while len(read) < expected and time.monotonic() < deadline:
            time.sleep(0.001)
        time.sleep(0.03)  # for what should not come
        assert len(read) == expected


def test_batches_of_pictures_begin_where_a_device_takes_them_as_they_are(pictures):
    batches = list(LoaderOptions().create(pictures, CROP, 1, SEED).epoch(EPOCH))
    assert {np.asarray(images).ctypes.data % 64 for images, _ in batches} == {0}


def test_the_decoder_is_imported_before_the_first_batch_is_asked_for(pictures, monkeypatch):
    imported = []
    monkeypatch.setattr(picture_loader, "import_tensorflow", lambda: imported.append("tensorflow"))
    LoaderOptions().create(pictures, CROP, PER_BATCH, SEED)
    assert imported


@pytest.mark.parametrize("workers", [0, 2, "auto"])
def test_a_damaged_picture_stops_the_epoch_with_its_name(pictures, workers, tmp_path):
    root = write_folders(tmp_path, make_splits())
    split = replace(load(root, FOLDERS).train, size=SEEN)
    last = plan_epoch(CROP, SEED, EPOCH, len(split)).order[-1]
    path = sorted(root.glob("train/*/*"))[last]
    path.write_bytes(path.read_bytes()[:300])
    batches = LoaderOptions(workers=workers).create(split, CROP, PER_BATCH, SEED).epoch(EPOCH)
    for _ in range(2):
        next(batches)
    with pytest.raises(UserError, match=f"{path.name} cannot be decoded .*--skip-damaged"):
        next(batches)


@pytest.mark.parametrize(
    ("augmentation", "size"), [("resized-crop", 32), ("resized-crop", 20), ("none", 20)]
)
def test_arrays_can_be_seen_at_any_size(split, augmentation, size):
    resized = replace(split, size=size)
    loader = LoaderOptions().create(resized, AUGMENTATIONS[augmentation], BATCH, SEED)
    images, labels = map(np.concatenate, zip(*collect(loader), strict=True))
    assert images.shape == (SIZE, size, size, 3)
    view = AUGMENTATIONS[augmentation].view
    assert view is not None
    for image, label in list(zip(images, labels.tolist(), strict=True))[:20]:
        draw = generator("view", SEED, EPOCH, label)
        expected = take_view(
            split.images, label, size, lambda w, h, s, draw=draw: view(draw, w, h, s)
        )
        np.testing.assert_array_equal(image, expected)
    ((batch, mask),) = eval_batches(resized, SIZE, WorkerOptions())
    assert batch.images.shape == (SIZE, size, size, 3)
    assert mask.all()


def test_what_an_augmentation_or_a_loader_cannot_take_is_refused(split, pictures):
    for images in (pictures, replace(split, size=20)):
        with pytest.raises(UserError, match=r"--augment crop-flip .* choose one of resized-crop"):
            list(LoaderOptions().create(images, AUGMENTATIONS["crop-flip"], 4, SEED).epoch(0))
        with pytest.raises(UserError, match=r"--loader resident .* leave it out"):
            LoaderOptions(loader="resident").create(images, CROP, 4, SEED)
    with pytest.raises(UserError, match=r"--loader resident .* --augment resized-crop"):
        LoaderOptions(loader="resident").create(split, CROP, 4, SEED)


_UNFINISHED = """
import sys
from pathlib import Path
from jaxresnet.data.augment import AUGMENTATIONS
from jaxresnet.data.imagenet import FOLDERS
from jaxresnet.data.loaders import LoaderOptions

train = FOLDERS.load(Path(sys.argv[1]), (None, None), lambda done, total: None).train
batches = LoaderOptions().create(train, AUGMENTATIONS["resized-crop"], 1, seed=0).epoch(0)
print(next(batches).images.shape)
"""


def test_a_program_may_end_before_its_epoch_does(tmp_path):
    root = write_folders(tmp_path, make_splits())
    result = subprocess.run(
        [sys.executable, "-c", _UNFINISHED, str(root)],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert (result.stdout, result.stderr) == ("(1, 224, 224, 3)\n", "")
