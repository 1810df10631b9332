"""Named streams of random numbers: the same name, seed and epoch always give the same numbers."""

import numpy as np

# The keys that the project began with.
EPOCH_STREAMS = {"order": 0, "augmentation": 1}
FIXED_STREAMS = {"subset": 0, "synthetic train": 0, "synthetic test": 1}


def generator(stream: str, seed: int = 0, epoch: int = 0) -> np.random.Generator:
    """A counter-based generator (Philox; Salmon et al., 2011) for one purpose, seed and epoch."""
    if stream in FIXED_STREAMS:
        return np.random.Generator(np.random.Philox(key=FIXED_STREAMS[stream]))
    return np.random.Generator(np.random.Philox(key=[seed, (epoch << 1) | EPOCH_STREAMS[stream]]))
