"""What a data set is: where its kind of images comes from, and two splits of them."""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxresnet.data.pictures import EncodedImages, Images
from jaxresnet.errors import UserError
from jaxresnet.random import generator

# Called with (images done, images in all) while images are decoded.
OnProgress = Callable[[int, int], None]
# How many training and evaluation images will be used; None: all.
Wanted = tuple[int | None, int | None]


@dataclass(frozen=True)
class Split:
    """Images and their labels (n,) int32.

    Attributes:
      images: (n, height, width, 3) uint8, or encoded in files.
      size: pixels a side of what the network gets of an image; None: of the images themselves.
    """

    images: Images
    labels: np.ndarray
    size: int | None = None

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def pixels(self) -> np.ndarray:
        """The images, where they are in memory."""
        assert isinstance(self.images, np.ndarray)
        return self.images

    @property
    def image_size(self) -> int:
        """Pixels a side of what the network gets."""
        return self.size or self.pixels.shape[1]

    @property
    def in_memory(self) -> bool:
        """Whether the images are, and are what the network gets."""
        images = self.images
        return isinstance(images, np.ndarray) and images.shape[1:3] == (self.image_size,) * 2

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
        return self.choose(chosen)

    def choose(self, indices: np.ndarray) -> "Split":
        """The images of these indices, in their order."""
        return replace(self, images=self.images[indices], labels=self.labels[indices])


@dataclass(frozen=True)
class Source(ABC):
    """A kind of images: an entry of SOURCES in sources.py.

    Attributes:
      title: what tables and plots call them, such as "CIFAR-10 images".
      mean, std: by channel, of pixels from 0 to 1; images are normalised by them.
      image_size: pixels a side of what the network gets, unless asked for otherwise.
      sizes: how many images are in "train" and in "test"; empty if there can be any number.
      in_files: whether images are decoded when they are needed; else they are in memory.
    """

    in_files: ClassVar[bool] = False

    title: str
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    image_size: int
    sizes: Mapping[str, int]

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
      left_out: the names of damaged files that are in neither split.
      class_ids: the classes as the source names them, where class_names are for people.
    """

    name: str
    source: Source
    class_names: tuple[str, ...]
    train: Split
    test: Split
    location: str
    published: bool = False
    left_out: tuple[str, ...] = ()
    class_ids: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        return self.source.title

    def normalise(self, images: jax.Array | np.ndarray) -> jax.Array:
        return normalise(images, self.source.mean, self.source.std)

    def fingerprint(self) -> str:
        """SHA-256 over the labels and images of both splits, in order, as 64 hex digits.

        Of images in files, over what stands for them: see EncodedImages.digest.
        """
        digest = hashlib.sha256()
        for split in (self.train, self.test):
            images = split.images
            digest.update(np.ascontiguousarray(split.labels, np.int32).tobytes())
            in_files = isinstance(images, EncodedImages)
            digest.update(images.digest() if in_files else np.ascontiguousarray(images).data)
        return digest.hexdigest()


def not_found(title: str, directory: Path, accepted: str) -> UserError:
    """That a directory holds no copy of a data set: what it holds, and what would be one."""
    if directory.is_dir():
        names = sorted(path.name for path in directory.iterdir())
        state = f"holds {', '.join(names[:5])}{', ...' * (len(names) > 5)}" if names else "is empty"
    else:
        state = "is not a directory" if directory.exists() else "does not exist"
    return UserError(
        f"no {title} found: the data directory {directory} {state}\naccepted: {accepted}"
    )


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
