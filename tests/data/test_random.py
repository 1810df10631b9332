"""The named streams of random numbers."""

from itertools import product

import numpy as np
import pytest

from jaxresnet.random import EPOCH_STREAMS, FIXED_STREAMS, generator


def draw(stream: str, seed: int = 0, epoch: int = 0) -> tuple[int, ...]:
    return tuple(generator(stream, seed, epoch).integers(2**62, size=4).tolist())


@pytest.mark.parametrize("stream", [*EPOCH_STREAMS, *FIXED_STREAMS])
def test_a_stream_repeats(stream):
    assert draw(stream, 1, 2) == draw(stream, 1, 2)


def test_names_seeds_and_epochs_all_differ():
    streams = list(product(EPOCH_STREAMS, range(5), range(5)))
    assert len({draw(*stream) for stream in streams}) == len(streams)


@pytest.mark.parametrize("stream", FIXED_STREAMS)
def test_fixed_streams_do_not_depend_on_seed_and_epoch(stream):
    assert draw(stream, 1, 2) == draw(stream)


def test_earlier_runs_drew_the_same_numbers():
    philox = np.random.Philox(key=[5, 2 * 3 + 1])
    expected = np.random.Generator(philox).integers(2**62, size=4)
    assert draw("augmentation", 5, 3) == tuple(expected.tolist())
