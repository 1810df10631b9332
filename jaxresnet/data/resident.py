"""Batches cut, inside the training step, from a data set that stays on the device as uint8.

The same (seed, epoch, index) draws as the tf.data loader's, so bit for bit the same batches,
without a copy from the host for each.
"""

from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np

from jaxresnet.data.augment import CROP_PADDING, plan_epoch
from jaxresnet.data.dataset import Split
from jaxresnet.data.pipeline import Batch


class ResidentLoader:
    """Augmented training batches made by the step itself (CIFAR-10 takes 150 MB on the device).

    What it hands out for a batch is the whole set and the numbers to cut it by: see `read`.
    """

    def __init__(self, split: Split, *, batch_size: int, seed: int):
        self._seed = seed
        self._batch_size = batch_size
        self._images = jax.device_put(split.images)
        self._labels = jax.device_put(split.labels)

    def epoch(
        self, epoch: int, first_batch: int = 0
    ) -> Iterator[tuple[jax.Array | np.ndarray, ...]]:
        """The arguments of `read` for each batch from `first_batch` on, the last one short."""
        plan = plan_epoch(self._seed, epoch, len(self._labels))
        for start in range(first_batch * self._batch_size, len(plan.order), self._batch_size):
            indices = plan.order[start : start + self._batch_size]
            draws = (plan.top[indices], plan.left[indices], plan.flip[indices])
            yield self._images, self._labels, indices, *draws

    def arguments(self, size: int) -> tuple[jax.ShapeDtypeStruct, ...]:
        """Shapes and dtypes of the arguments of `read` for a batch of that many images."""
        sets = (
            jax.ShapeDtypeStruct(array.shape, array.dtype) for array in (self._images, self._labels)
        )
        number = jax.ShapeDtypeStruct((size,), jnp.int32)
        return *sets, number, number, number, jax.ShapeDtypeStruct((size,), bool)

    @staticmethod
    def read(
        images: jax.Array,
        labels: jax.Array,
        indices: jax.Array,
        top: jax.Array,
        left: jax.Array,
        flip: jax.Array,
    ) -> Batch:
        """Picks, pads, crops and flips; a pure function, traced into the training step.

        images (n, height, width, 3) uint8, labels (n,) int32; the others (batch,): which images,
        their crops' corners in the padded images (int32), and whether they are flipped (bool).
        """
        height, width = images.shape[1:3]
        padding = ((0, 0), (CROP_PADDING, CROP_PADDING), (CROP_PADDING, CROP_PADDING), (0, 0))
        padded = jnp.pad(images[indices], padding)
        columns = jnp.arange(width)
        columns = left[:, None] + jnp.where(flip[:, None], columns[::-1], columns)
        rows = top[:, None] + jnp.arange(height)
        batch = jnp.arange(len(indices))[:, None, None]
        return Batch(padded[batch, rows[:, :, None], columns[:, None, :]], labels[indices])
