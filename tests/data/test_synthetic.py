"""The built-in images."""

import numpy as np

from jaxresnet.data.synthetic import SHAPES, load_synthetic


def test_the_images_are_always_the_same_and_the_splits_differ():
    first, again = load_synthetic(60, 40), load_synthetic(60, 40)
    assert first.fingerprint() == again.fingerprint()
    assert not np.array_equal(first.train.images[:40], first.test.images)


def test_there_are_2000_and_500_images_of_ten_balanced_classes():
    dataset = load_synthetic()
    assert (len(dataset.train), len(dataset.test)) == (2_000, 500)
    assert dataset.train.images.shape == (2_000, 32, 32, 3)
    assert len(SHAPES) == len(dataset.class_names) == 10
    np.testing.assert_array_equal(np.bincount(dataset.train.labels), np.full(10, 200))
    assert dataset.words == "synthetic images"
