"""The named streams of random numbers."""

from itertools import product

from jaxresnet.data.augment import AUGMENTATIONS
from jaxresnet.random import generator

NAMES = ["order", "subset"]
NAMES += [f"augment {name}" for entry in AUGMENTATIONS.values() for name in entry.draws]


def draw(stream: str, seed: int = 0, epoch: int = 0) -> tuple[int, ...]:
    return tuple(generator(stream, seed, epoch).integers(2**62, size=4).tolist())


def test_a_stream_repeats():
    assert draw("order", 1, 2) == draw("order", 1, 2)


def test_names_seeds_and_epochs_all_differ():
    streams = list(product(dict.fromkeys(NAMES), range(5), range(5)))
    assert len({draw(*stream) for stream in streams}) == len(streams)


def test_an_epoch_does_not_run_into_the_next():
    first, second = generator("order"), generator("order", epoch=1)
    assert not set(first.integers(2**62, size=10_000)) & set(second.integers(2**62, size=10_000))
