"""The order of images, their crops and flips, and normalisation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxresnet.data.augment import CIFAR10_MEAN, CIFAR10_STD, normalise, plan_epoch


def test_an_epoch_visits_every_image_once():
    plan = plan_epoch(seed=0, epoch=3, size=1_000)
    np.testing.assert_array_equal(np.sort(plan.order), np.arange(1_000))


def test_plans_depend_on_seed_and_epoch_and_repeat():
    first, again = plan_epoch(1, 2, 500), plan_epoch(1, 2, 500)
    np.testing.assert_array_equal(first.order, again.order)
    np.testing.assert_array_equal(first.flip, again.flip)
    for other in (plan_epoch(2, 2, 500), plan_epoch(1, 3, 500), plan_epoch(2, 1, 500)):
        assert not np.array_equal(first.order, other.order)
        assert not np.array_equal(first.top, other.top)


def test_an_images_draw_does_not_depend_on_how_many_there_are():
    few, many = plan_epoch(0, 0, 100), plan_epoch(0, 0, 5_000)
    for name in ("top", "left", "flip"):
        np.testing.assert_array_equal(getattr(few, name), getattr(many, name)[:100])


def test_crops_are_uniform_over_81_places_and_flips_are_fair():
    plan = plan_epoch(0, 0, 50_000)
    counts = np.bincount(9 * plan.top + plan.left, minlength=81)
    assert counts.size == 81
    expected = 50_000 / 81
    # A chi-squared of 80 degrees of freedom exceeds 146 once in 100,000 draws.
    assert ((counts - expected) ** 2 / expected).sum() < 146
    assert plan.flip.mean() == pytest.approx(0.5, abs=0.01)  # 4.5 standard deviations


def test_normalisation_is_exact_to_the_last_bit():
    values = np.arange(256, dtype=np.uint8)
    images = np.stack([values, values[::-1], np.roll(values, 7)], -1).reshape(1, 16, 16, 3)
    # torchvision's ToTensor and Normalize: each operation rounded to float32 by itself.
    mean, std = np.asarray(CIFAR10_MEAN, np.float32), np.asarray(CIFAR10_STD, np.float32)
    expected = (images.astype(np.float32) / np.float32(255) - mean) / std
    for function in (normalise, jax.jit(normalise)):
        result = function(jnp.asarray(images))
        assert result.dtype == jnp.float32
        np.testing.assert_array_equal(result, expected)
