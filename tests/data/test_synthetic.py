"""The built-in images."""

import numpy as np

from jaxresnet.data.synthetic import SHAPES, SYNTHETIC


def load(train_size: int | None = None, eval_size: int | None = None):
    return SYNTHETIC.load(None, (train_size, eval_size), lambda done, total: None)


def test_the_images_are_always_the_same_and_the_splits_differ():
    first = load(300, 200)
    assert first.fingerprint() == "395ed1fdb9d0688d92c17951bd82bbc0014469c5e0126eac5b8bbd475f44cf40"
    assert not np.array_equal(first.train.pixels[:200], first.test.pixels)


def test_there_are_2000_and_500_images_of_balanced_classes():
    dataset = load()
    assert (len(dataset.train), len(dataset.test)) == (2_000, 500)
    assert dataset.train.pixels.shape == (2_000, 32, 32, 3)
    assert dataset.class_names == tuple(SHAPES)
    np.testing.assert_array_equal(
        np.bincount(dataset.train.labels), np.full(len(SHAPES), 2_000 // len(SHAPES))
    )
    assert dataset.title == "synthetic images"
