"""What happens to an image: random crop, horizontal flip, normalisation.

The order of an epoch and the draws of each image are pure functions of (seed, epoch, index),
made here once per epoch with a counter-based generator (Philox), so every loader gives the same
batches whatever its workers, and a run resumed at any batch sees what it would have seen.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

# kuangliu/pytorch-cifar's constants, kept for the published protocol. Its standard deviation is
# an average over images of each image's own; over all pixels it is (0.2470, 0.2435, 0.2616).
CIFAR10_MEAN = (0.4914, 0.4822, 0.4465)
CIFAR10_STD = (0.2023, 0.1994, 0.2010)

CROP_PADDING = 4
_OFFSETS = 2 * CROP_PADDING + 1
_ORDER_STREAM, _AUGMENT_STREAM = 0, 1


@dataclass(frozen=True)
class EpochPlan:
    """The order of one epoch, and each image's crop and flip.

    order: (n,) int32, the index of the image at each place of the epoch.
    top, left: (n,) int32 in 0..8, by image index: the crop's corner in the padded image.
    flip: (n,) bool, by image index.
    """

    order: np.ndarray
    top: np.ndarray
    left: np.ndarray
    flip: np.ndarray


def plan_epoch(seed: int, epoch: int, size: int) -> EpochPlan:
    """Draws the plan of one epoch over `size` images from (seed, epoch) alone."""
    order = _generator(seed, epoch, _ORDER_STREAM).permutation(size).astype(np.int32)
    # One uniform draw per image over 9 x 9 crops x 2, so that image i has the same draw
    # however many images follow it.
    draws = _generator(seed, epoch, _AUGMENT_STREAM).integers(2 * _OFFSETS**2, size=size)
    crop, flip = np.divmod(draws, 2)
    top, left = np.divmod(crop, _OFFSETS)
    return EpochPlan(order, top.astype(np.int32), left.astype(np.int32), flip.astype(bool))


def _generator(seed: int, epoch: int, stream: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(key=[seed, (epoch << 1) | stream]))


def normalise(images: jax.Array | np.ndarray) -> jax.Array:
    """uint8 (..., 3) -> float32 (images / 255 - mean) / std, torchvision's to the last bit.

    A look-up of the 256 values that a channel can take: the compiler may turn the divisions of
    the plain formula into products with reciprocals, which round differently.
    """
    values = np.arange(256, dtype=np.float32)[:, None] / np.float32(255)
    mean, std = np.asarray(CIFAR10_MEAN, np.float32), np.asarray(CIFAR10_STD, np.float32)
    table = jnp.asarray((values - mean) / std)
    return table[images, jnp.arange(3)]
