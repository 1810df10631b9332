"""The order of images, the draws of augmentations, and what these do to images."""

import numpy as np
import pytest
from scipy import stats

from jaxresnet.data.augment import AUGMENTATIONS, CROP_PADDING, JAX, plan_epoch

# Draws are fixed by their seed: a right generator fails such a bound once in 100,000 seeds.
P = 1e-5


@pytest.fixture(params=AUGMENTATIONS)
def augmentation(request):
    return AUGMENTATIONS[request.param]


def test_an_epoch_visits_every_image_once(augmentation):
    plan = plan_epoch(augmentation, seed=0, epoch=3, size=1_000)
    np.testing.assert_array_equal(np.sort(plan.order), np.arange(1_000))


def test_an_images_draws_do_not_depend_on_how_many_there_are(augmentation):
    few, many = (plan_epoch(augmentation, 0, 0, size) for size in (100, 5_000))
    for name, values in few.draws.items():
        np.testing.assert_array_equal(values, many.draws[name][:100])


def test_draws_are_uniform_and_independent(augmentation):
    draws = plan_epoch(augmentation, seed=0, epoch=0, size=50_000).draws
    assert draws.keys() == augmentation.draws.keys()
    for name, count in augmentation.draws.items():
        assert stats.chisquare(np.bincount(draws[name], minlength=count)).pvalue > P
    if draws:
        table = np.zeros(tuple(augmentation.draws.values()), int)
        np.add.at(table, tuple(draws.values()), 1)
        assert stats.chisquare(table.ravel()).pvalue > P


def test_crop_flip_pads_crops_and_flips():
    images = np.random.default_rng(0).integers(0, 256, (40, 32, 32, 3), np.uint8)
    augment = AUGMENTATIONS["crop-flip"]
    draws = plan_epoch(augment, seed=3, epoch=1, size=len(images)).draws
    assert augment.apply is not None
    result = augment.apply(JAX, images, draws)
    for image, before, top, left, flip in zip(
        result, images, draws["top"], draws["left"], draws["flip"], strict=True
    ):
        padded = np.pad(before, ((CROP_PADDING,) * 2, (CROP_PADDING,) * 2, (0, 0)))
        cropped = padded[top : top + 32, left : left + 32]
        np.testing.assert_array_equal(image, cropped[:, ::-1] if flip else cropped)
