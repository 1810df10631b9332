"""What happens to a training image at random, written once for every loader.

An image's draws follow from (seed, epoch, index) alone, so every loader gives the same batches
whatever its workers, and a run resumed at any batch sees what it would have seen. To add an
augmentation, write its function and an entry of AUGMENTATIONS.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from jaxresnet.random import generator

CROP_PADDING = 4  # pixels on each side, as in pytorch-cifar


class Arrays(NamedTuple):
    """What augmentations need of an array library besides arithmetic.

    Attributes:
      pad: (images, n) -> the images with n zeros on each of the four sides.
      take: (images, rows, columns) -> pixel [i, rows[i, y], columns[i, x]] at [i, y, x]; rows and
        columns are (batch, height) and (batch, width) int32.
      where: (condition, x, y) -> x where the condition holds, else y; they are broadcast.
    """

    pad: Callable[[Any, int], Any]
    take: Callable[[Any, Any, Any], Any]
    where: Callable[[Any, Any, Any], Any]


JAX = Arrays(
    pad=lambda images, n: jnp.pad(images, ((0, 0), (n, n), (n, n), (0, 0))),
    take=lambda images, rows, columns: images[
        jnp.arange(len(images))[:, None, None], rows[:, :, None], columns[:, None, :]
    ],
    where=jnp.where,
)


class Augmentation(NamedTuple):
    """What to draw for an image, and what that does to it.

    Attributes:
      draws: how many whole numbers each is drawn from, uniformly, by name.
      apply: (arrays, (batch, height, width, 3) uint8 images, (batch,) int32 draws) -> images.
    """

    draws: Mapping[str, int]
    apply: Callable[[Arrays, Any, Mapping[str, Any]], Any]


def _crop_and_flip(arrays: Arrays, images: Any, draws: Mapping[str, Any]) -> Any:
    """torchvision's RandomCrop(size, padding=4), then RandomHorizontalFlip."""
    rows, columns = (np.arange(n, dtype=np.int32) for n in images.shape[1:3])
    columns = arrays.where(draws["flip"][:, None] == 1, columns[::-1], columns)
    padded = arrays.pad(images, CROP_PADDING)
    return arrays.take(padded, draws["top"][:, None] + rows, draws["left"][:, None] + columns)


_OFFSETS = 2 * CROP_PADDING + 1
AUGMENTATIONS: dict[str, Augmentation] = {
    "crop-flip": Augmentation({"top": _OFFSETS, "left": _OFFSETS, "flip": 2}, _crop_and_flip),
    "none": Augmentation({}, lambda _arrays, images, _draws: images),
}


class EpochPlan(NamedTuple):
    """order: (n,) int32 indices of images. draws: by name, (n,) int32 by index of image."""

    order: np.ndarray
    draws: dict[str, np.ndarray]


def plan_epoch(augmentation: Augmentation, seed: int, epoch: int, size: int) -> EpochPlan:
    """Draws one epoch over `size` images; image i's draws are the same for any greater size."""
    order = generator("order", seed, epoch).permutation(size).astype(np.int32)
    draws = {
        name: generator(f"augment {name}", seed, epoch).integers(count, size=size, dtype=np.int32)
        for name, count in augmentation.draws.items()
    }
    return EpochPlan(order, draws)
