"""What a data set is: two splits of uint8 images with labels, and the names of the classes."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from jaxresnet.errors import UserError

# Called with (images done, images in all) while images are decoded.
OnProgress = Callable[[int, int], None]

# The Philox key that picks which images a smaller split keeps: the same ones for every run.
_SUBSET_KEY = 0


@dataclass(frozen=True)
class Split:
    """Images (n, height, width, 3) uint8 and labels (n,) int32."""

    images: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)

    def subset(self, size: int | None, option: str) -> "Split":
        """A fixed random choice of `size` images, in the original order; all of them for None.

        Random, since some sources are sorted by class; fixed, so that runs can be compared.

        Raises:
          UserError: the split holds fewer images; `option` names the setting to change.
        """
        if size is None or size == len(self):
            return self
        if size > len(self):
            raise UserError(f"{option} is {size:,}, but the data set has only {len(self):,} images")
        generator = np.random.Generator(np.random.Philox(key=_SUBSET_KEY))
        chosen = np.sort(generator.permutation(len(self))[:size])
        return Split(self.images[chosen], self.labels[chosen])


@dataclass(frozen=True)
class Dataset:
    """A named pair of splits. `synthetic` marks images that a program drew."""

    name: str
    class_names: tuple[str, ...]
    train: Split
    test: Split
    location: str
    synthetic: bool = False

    @property
    def words(self) -> str:
        """How tables and plot titles call the images."""
        return "synthetic images" if self.synthetic else "CIFAR-10"

    def fingerprint(self) -> str:
        """SHA-256 over the labels and images of both splits, in order, as 64 hex digits."""
        digest = hashlib.sha256()
        for split in (self.train, self.test):
            digest.update(np.ascontiguousarray(split.labels, np.int32).tobytes())
            digest.update(np.ascontiguousarray(split.images).data)
        return digest.hexdigest()
