"""Batches: the same from every loader with any number of workers, whole, and as PyTorch crops."""

import jax
import numpy as np
import pytest

from jaxresnet.data.augment import AUGMENTATIONS, JAX, plan_epoch
from jaxresnet.data.dataset import Split
from jaxresnet.data.loaders import (
    LOADERS,
    Loader,
    LoaderOptions,
    WorkerOptions,
    Workers,
    eval_batches,
)

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
