"""Batches: the same for every loader and any number of workers, whole, and as PyTorch crops."""

import jax
import numpy as np
import pytest

from jaxresnet.data.augment import plan_epoch
from jaxresnet.data.dataset import Split
from jaxresnet.data.pipeline import TfDataLoader, eval_batches
from jaxresnet.data.resident import ResidentLoader

SIZE, BATCH, SEED = 200, 32, 7


@pytest.fixture(scope="module")
def split() -> Split:
    """Random images; the label is the image's index, so that it can be followed."""
    images = np.random.default_rng(0).integers(0, 256, (SIZE, 32, 32, 3), np.uint8)
    return Split(images, np.arange(SIZE, dtype=np.int32))


def tfdata(split: Split, workers) -> TfDataLoader:
    return TfDataLoader(split, batch_size=BATCH, seed=SEED, workers=workers, prefetch=2)


def collect(loader, epoch: int, first_batch: int = 0):
    read = jax.jit(loader.read)
    batches = [read(*arguments) for arguments in loader.epoch(epoch, first_batch)]
    return [np.asarray(b.images) for b in batches], [np.asarray(b.labels) for b in batches]


def expected_image(split: Split, index: int, epoch: int) -> np.ndarray:
    """Pad by 4, crop, flip: one image at a time, in NumPy."""
    plan = plan_epoch(SEED, epoch, SIZE)
    padded = np.pad(split.images[index], ((4, 4), (4, 4), (0, 0)))
    top, left = plan.top[index], plan.left[index]
    image = padded[top : top + 32, left : left + 32]
    return image[:, ::-1] if plan.flip[index] else image


def test_images_are_padded_cropped_and_flipped_by_their_draws(split):
    images, labels = collect(tfdata(split, 1), epoch=1)
    for image, label in zip(np.concatenate(images), np.concatenate(labels), strict=True):
        np.testing.assert_array_equal(image, expected_image(split, label, epoch=1))


def test_no_image_is_lost_or_doubled_and_the_last_batch_is_short(split):
    images, labels = collect(tfdata(split, 2), epoch=0)
    assert [len(batch) for batch in labels] == [32] * 6 + [8]
    np.testing.assert_array_equal(np.sort(np.concatenate(labels)), np.arange(SIZE))
    assert {batch.dtype for batch in images} == {np.dtype(np.uint8)}
    assert {batch.dtype for batch in labels} == {np.dtype(np.int32)}


@pytest.mark.parametrize("workers", [0, 2, 5, "auto"])
def test_batches_do_not_depend_on_workers(split, workers):
    expected_images, expected_labels = collect(tfdata(split, 1), epoch=2)
    images, labels = collect(tfdata(split, workers), epoch=2)
    for found, expected in zip(images + labels, expected_images + expected_labels, strict=True):
        np.testing.assert_array_equal(found, expected)


def test_the_resident_loader_gives_the_same_batches(split):
    expected_images, expected_labels = collect(tfdata(split, 1), epoch=2)
    images, labels = collect(ResidentLoader(split, batch_size=BATCH, seed=SEED), epoch=2)
    for found, expected in zip(images + labels, expected_images + expected_labels, strict=True):
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("kind", ["tfdata", "resident"])
def test_an_epoch_can_be_entered_at_any_batch(split, kind):
    loader = (
        tfdata(split, 2) if kind == "tfdata" else ResidentLoader(split, batch_size=BATCH, seed=SEED)
    )
    images, _ = collect(loader, epoch=1)
    later, _ = collect(loader, epoch=1, first_batch=4)
    assert len(later) == 3
    for found, expected in zip(later, images[4:], strict=True):
        np.testing.assert_array_equal(found, expected)


def test_evaluation_pads_the_last_batch_and_masks_the_padding(split):
    batches = list(eval_batches(split, BATCH))
    assert {batch.images.shape for batch, _ in batches} == {(BATCH, 32, 32, 3)}
    labels = np.concatenate([np.asarray(batch.labels)[mask] for batch, mask in batches])
    images = np.concatenate([np.asarray(batch.images)[mask] for batch, mask in batches])
    np.testing.assert_array_equal(labels, split.labels)
    np.testing.assert_array_equal(images, split.images)
