"""What a data set is: where its kind of images comes from, and two splits of them."""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxresnet.errors import UserError
from jaxresnet.random import generator

# Called with (images done, images in all) while images are decoded.
OnProgress = Callable[[int, int], None]
# How many training and evaluation images will be used; None: all.
Wanted = tuple[int | None, int | None]


@dataclass(frozen=True)
class Split:
    """Images (n, height, width, 3) uint8 and labels (n,) int32."""

    images: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)

    def subset(self, size: int | None, flag: str) -> "Split":
        """A fixed random choice of `size` images, in the original order; all of them for None.

        Random, since some sources are sorted by class; fixed, so that runs can be compared.

        Raises:
          UserError: the split holds fewer images; `flag` is the option to change.
        """
        if size is None or size == len(self):
            return self
        if size > len(self):
            raise UserError(f"{flag} is {size:,}, but the data set has only {len(self):,} images")
        chosen = np.sort(generator("subset").permutation(len(self))[:size])
        return Split(self.images[chosen], self.labels[chosen])


@dataclass(frozen=True)
class Source(ABC):
    """A kind of images: an entry of SOURCES in sources.py.

    Attributes:
      title: what tables and plots call them, such as "CIFAR-10 images".
      mean, std: by channel, of pixels from 0 to 1; images are normalised by them.
    """

    title: str
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    @abstractmethod
    def load(self, directory: Path | None, wanted: Wanted, on_progress: OnProgress) -> "Dataset":
        """Loads the data set from the directory, or from the usual one.

        Raises:
          OSError: there is none.
          UserError: it is damaged, or options make no sense.
        """


@dataclass(frozen=True)
class Dataset:
    """Two splits of one source's images.

    Attributes:
      name: of the source in SOURCES.
      location: for people.
      published: whether they are known to be the images that others publish results of.
    """

    name: str
    source: Source
    class_names: tuple[str, ...]
    train: Split
    test: Split
    location: str
    published: bool = False

    @property
    def title(self) -> str:
        return self.source.title

    def normalise(self, images: jax.Array | np.ndarray) -> jax.Array:
        return normalise(images, self.source.mean, self.source.std)

    def fingerprint(self) -> str:
        """SHA-256 over the labels and images of both splits, in order, as 64 hex digits."""
        digest = hashlib.sha256()
        for split in (self.train, self.test):
            digest.update(np.ascontiguousarray(split.labels, np.int32).tobytes())
            digest.update(np.ascontiguousarray(split.images).data)
        return digest.hexdigest()


class Batch(NamedTuple):
    """images (batch, height, width, 3) uint8, labels (batch,) int32."""

    images: np.ndarray | jax.Array
    labels: np.ndarray | jax.Array


def normalise(
    images: jax.Array | np.ndarray, mean: tuple[float, ...], std: tuple[float, ...]
) -> jax.Array:
    """uint8 (..., 3) -> float32 (images / 255 - mean) / std, torchvision's to the last bit.

    A look-up of the 256 values that a channel can take: the compiler may turn the divisions of
    the plain formula into products with reciprocals, which round differently.
    """
    values = np.arange(256, dtype=np.float32)[:, None] / np.float32(255)
    table = jnp.asarray((values - np.asarray(mean, np.float32)) / np.asarray(std, np.float32))
    return table[images, jnp.arange(3)]
