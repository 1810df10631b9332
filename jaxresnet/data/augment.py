"""What happens to a training image at random, written once for every loader.

An image's draws follow from (seed, epoch, index) alone, so every loader gives the same batches
whatever its workers, and a run resumed at any batch sees what it would have seen. To add an
augmentation, write its function and an entry of AUGMENTATIONS: of batches of equal images in
memory, of single pictures of any size, or of both.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from jaxresnet.data.dataset import Split
from jaxresnet.data.views import Random, View, centre_crop, random_resized_crop
from jaxresnet.errors import UserError
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
      draws: how many whole numbers each is drawn from, uniformly, by name; for `apply`.
      apply: (arrays, (batch, height, width, 3) uint8 images, (batch,) int32 draws) -> images.
      view: (what draws, a picture's width, its height, pixels a side to be) -> what is seen of it.
    """

    draws: Mapping[str, int] = {}
    apply: Callable[[Arrays, Any, Mapping[str, Any]], Any] | None = None
    view: Callable[[Random, int, int, int], View] | None = None


def _crop_and_flip(arrays: Arrays, images: Any, draws: Mapping[str, Any]) -> Any:
    """torchvision's RandomCrop(size, padding=4), then RandomHorizontalFlip."""
    rows, columns = (np.arange(n, dtype=np.int32) for n in images.shape[1:3])
    columns = arrays.where(draws["flip"][:, None] == 1, columns[::-1], columns)
    padded = arrays.pad(images, CROP_PADDING)
    return arrays.take(padded, draws["top"][:, None] + rows, draws["left"][:, None] + columns)


_OFFSETS = 2 * CROP_PADDING + 1
AUGMENTATIONS: dict[str, Augmentation] = {
    "crop-flip": Augmentation({"top": _OFFSETS, "left": _OFFSETS, "flip": 2}, _crop_and_flip),
    "resized-crop": Augmentation(
        view=lambda draw, width, height, _size: random_resized_crop(draw, width, height)
    ),
    "none": Augmentation(
        apply=lambda _arrays, images, _draws: images,
        view=lambda _draw, width, height, size: centre_crop(width, height, size),
    ),
}


def sees_pictures(augmentation: Augmentation, split: Split) -> bool:
    """Whether the network sees views of single pictures; else batches of the images themselves.

    Raises:
      UserError: the augmentation is not for such images.
    """
    if split.in_memory and augmentation.apply:
        return False
    if augmentation.view:
        return True
    able = ", ".join(name for name, each in AUGMENTATIONS.items() if each.view)
    (name,) = (name for name, each in AUGMENTATIONS.items() if each is augmentation)
    raise UserError(
        f"--augment {name} is for images in memory that have the network's image size already: "
        f"choose one of {able}"
    )


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
