"""Named streams of random numbers: the same name, seed and epoch always give the same numbers."""

import hashlib

import numpy as np


def generator(stream: str, seed: int = 0, epoch: int = 0) -> np.random.Generator:
    """A counter-based generator (Philox; Salmon et al., 2011) for one purpose, seed and epoch.

    The key is the seed and a digest of the name; epochs are 2^192 numbers apart. So no two streams
    meet, whatever others are added.
    """
    digest = hashlib.sha256(stream.encode()).digest()
    key = [seed, int.from_bytes(digest[:8], "little")]
    return np.random.Generator(np.random.Philox(key=key, counter=[0, 0, 0, epoch]))
