"""Batches cut from a data set that stays on the device as uint8.

The same (seed, epoch, index) draws as the tf.data loader's, so bit for bit the same batches,
without a copy from the host for each.
"""

from collections.abc import Iterator

import jax
import jax.numpy as jnp

from jaxresnet.data.augment import CROP_PADDING, plan_epoch
from jaxresnet.data.dataset import Split
from jaxresnet.data.pipeline import Batch


class ResidentLoader:
    """Augmented training batches made on the device (CIFAR-10 takes 150 MB there)."""

    def __init__(self, split: Split, *, batch_size: int, seed: int):
        self._seed = seed
        self._batch_size = batch_size
        self._images = jax.device_put(split.images)
        self._labels = jax.device_put(split.labels)
        # Compiled now, so that no compilation falls into an epoch's time.
        sizes = {batch_size, len(split) % batch_size or batch_size}
        self._make_batch = {size: self._compile(size) for size in sizes}

    def epoch(self, epoch: int, first_batch: int = 0) -> Iterator[Batch]:
        """The batches of one epoch from `first_batch` on, the last one short."""
        plan = plan_epoch(self._seed, epoch, len(self._labels))
        for start in range(first_batch * self._batch_size, len(plan.order), self._batch_size):
            indices = plan.order[start : start + self._batch_size]
            draws = (plan.top[indices], plan.left[indices], plan.flip[indices])
            make_batch = self._make_batch[len(indices)]
            yield Batch(*make_batch(self._images, self._labels, indices, *draws))

    def _compile(self, size: int) -> jax.stages.Compiled:
        numbers, flags = (
            jax.ShapeDtypeStruct((size,), jnp.int32),
            jax.ShapeDtypeStruct((size,), bool),
        )
        arguments = (self._images, self._labels, numbers, numbers, numbers, flags)
        return jax.jit(_make_batch).lower(*arguments).compile()


def _make_batch(
    images: jax.Array,
    labels: jax.Array,
    indices: jax.Array,
    top: jax.Array,
    left: jax.Array,
    flip: jax.Array,
) -> tuple[jax.Array, jax.Array]:
    height, width = images.shape[1:3]
    padding = ((0, 0), (CROP_PADDING, CROP_PADDING), (CROP_PADDING, CROP_PADDING), (0, 0))
    padded = jnp.pad(images[indices], padding)
    columns = jnp.arange(width)
    columns = left[:, None] + jnp.where(flip[:, None], columns[::-1], columns)
    rows = top[:, None] + jnp.arange(height)
    batch = jnp.arange(len(indices))[:, None, None]
    return padded[batch, rows[:, :, None], columns[:, None, :]], labels[indices]
