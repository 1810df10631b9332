"""Named streams of random numbers: the same name and numbers always give the same draws."""

import hashlib

import numpy as np


def generator(stream: str, seed: int = 0, epoch: int = 0, index: int = 0) -> np.random.Generator:
    """A counter-based generator (Philox; Salmon et al., 2011) for one purpose, seed and epoch.

    The key is the seed and a digest of the name; epochs are 2^192 numbers apart, and an epoch's
    images, where each has a stream of its own by its index, 2^128. So no two streams meet, whatever
    others are added.
    """
    digest = hashlib.sha256(stream.encode()).digest()
    key = [seed, int.from_bytes(digest[:8], "little")]
    return np.random.Generator(np.random.Philox(key=key, counter=[0, 0, index, epoch]))
