"""The named streams of random numbers."""

from itertools import product

import pytest

from jaxresnet.data.augment import AUGMENTATIONS
from jaxresnet.random import generator

NAMES = ["order", "subset", "view"]
NAMES += [f"augment {name}" for entry in AUGMENTATIONS.values() for name in entry.draws]


def draw(stream: str, seed: int = 0, epoch: int = 0, index: int = 0) -> tuple[int, ...]:
    return tuple(generator(stream, seed, epoch, index).integers(2**62, size=4).tolist())


def test_a_stream_repeats():
    assert draw("order", 1, 2, 3) == draw("order", 1, 2, 3)


def test_names_seeds_epochs_and_indices_all_differ():
    streams = list(product(dict.fromkeys(NAMES), range(5), range(5), range(5)))
    assert len({draw(*stream) for stream in streams}) == len(streams)


@pytest.mark.parametrize("counter", ["epoch", "index"])
def test_a_stream_does_not_run_into_the_next(counter):
    first, second = generator("order"), generator("order", **{counter: 1})
    assert not set(first.integers(2**62, size=10_000)) & set(second.integers(2**62, size=10_000))
