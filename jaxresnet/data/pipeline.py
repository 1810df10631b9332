"""Batches from tf.data: crops and flips on the host, on as many threads as asked for.

One parallel call makes one whole batch, as a worker of PyTorch's DataLoader does. Images stay
uint8 until they are on the device, a quarter of the bytes.
"""

from collections.abc import Iterator
from typing import Literal, NamedTuple

import jax
import numpy as np

from jaxresnet.data.augment import CROP_PADDING, plan_epoch
from jaxresnet.data.dataset import Split
from jaxresnet.data.tensorflow import import_tensorflow

Workers = int | Literal["auto"]


class Batch(NamedTuple):
    """images (batch, height, width, 3) uint8, labels (batch,) int32."""

    images: np.ndarray | jax.Array
    labels: np.ndarray | jax.Array


class TfDataLoader:
    """Augmented training batches, the same ones for any number of workers.

    workers: 0 makes each batch in line when it is asked for, n makes up to n at a time on a
      private pool of n threads, "auto" lets tf.data choose.
    prefetch: how many finished batches wait in a buffer; none with workers=0.
    """

    def __init__(
        self, split: Split, *, batch_size: int, seed: int, workers: Workers, prefetch: int
    ):
        tf = import_tensorflow()
        self._seed = seed
        self._batch_size = batch_size
        self._workers = workers
        self._prefetch = prefetch
        self._labels = split.labels
        self._size = len(split)
        with tf.device("CPU"):
            self._images = tf.constant(split.images)

    def epoch(self, epoch: int, first_batch: int = 0) -> Iterator[Batch]:
        """The batches of one epoch from `first_batch` on, the last one short."""
        tf = import_tensorflow()
        plan = plan_epoch(self._seed, epoch, self._size)
        order = plan.order[first_batch * self._batch_size :]
        columns = (order, plan.top[order], plan.left[order], plan.flip[order], self._labels[order])
        dataset = tf.data.Dataset.from_tensor_slices(columns).batch(self._batch_size)
        if self._workers == 0:
            dataset = dataset.map(self._make_batch)
        else:
            calls = tf.data.AUTOTUNE if self._workers == "auto" else self._workers
            dataset = dataset.map(self._make_batch, num_parallel_calls=calls, deterministic=True)
            dataset = dataset.prefetch(self._prefetch)
        for images, labels in dataset.with_options(self._options()).as_numpy_iterator():
            yield Batch(images, labels)

    def arguments(self, size: int) -> tuple[jax.ShapeDtypeStruct, ...]:
        """Shapes and dtypes of a batch of that many images."""
        images = jax.ShapeDtypeStruct((size, *self._images.shape[1:]), np.uint8)
        return images, jax.ShapeDtypeStruct((size,), np.int32)

    @staticmethod
    def read(images: jax.Array, labels: jax.Array) -> Batch:
        """Nothing is left to do in the training step."""
        return Batch(images, labels)

    def _options(self):
        options = import_tensorflow().data.Options()
        # The pool is private because TensorFlow's own would compete with XLA's for the cores.
        if self._workers != "auto":
            options.threading.private_threadpool_size = max(1, self._workers)
            options.threading.max_intra_op_parallelism = 1
            options.autotune.enabled = False
        return options

    def _make_batch(self, indices, top, left, flip, labels):
        """Pads, crops and flips by gathering rows, then columns, of each image."""
        tf = import_tensorflow()
        images = tf.gather(self._images, indices)
        height, width = images.shape[1:3]
        padding = [[0, 0], [CROP_PADDING, CROP_PADDING], [CROP_PADDING, CROP_PADDING], [0, 0]]
        images = tf.pad(images, padding)
        columns = tf.range(width)
        columns = tf.where(flip[:, None], columns[::-1], columns)
        images = tf.gather(images, top[:, None] + tf.range(height), axis=1, batch_dims=1)
        images = tf.gather(images, left[:, None] + columns, axis=2, batch_dims=1)
        return images, labels


def eval_batches(split: Split, batch_size: int) -> Iterator[tuple[Batch, np.ndarray]]:
    """All images in order, without augmentation, each batch with a mask (batch,) bool.

    The last batch is padded to the full size, so that one compiled step serves them all; the
    mask is False for the padding.
    """
    for start in range(0, len(split), batch_size):
        images = split.images[start : start + batch_size]
        labels = split.labels[start : start + batch_size]
        missing = batch_size - len(labels)
        mask = np.arange(batch_size) < len(labels)
        if missing:
            images = np.concatenate([images, np.zeros((missing, *images.shape[1:]), np.uint8)])
            labels = np.concatenate([labels, np.zeros(missing, np.int32)])
        yield Batch(images, labels), mask
