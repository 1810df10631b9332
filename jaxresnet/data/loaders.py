"""Loaders: what turns a split into the batches of an epoch. To add one, see LOADERS.

All loaders give the same batches, bit for bit, whatever their workers: see augment.py.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any

import jax
import numpy as np

from jaxresnet.data.augment import AUGMENTATIONS, JAX, Arrays, Augmentation, sees_pictures
from jaxresnet.data.dataset import Batch, Split
from jaxresnet.data.loader_base import HostLoader, Loader, WorkerOptions, describe_workers
from jaxresnet.data.picture_loader import PictureLoader
from jaxresnet.data.tensorflow import import_tensorflow
from jaxresnet.errors import UserError
from jaxresnet.options import one_of, option, unpublished


@dataclass(eq=False)
class TfDataLoader(HostLoader):
    """Batches of images in memory, from tf.data.

    One parallel call makes one whole batch, as a worker of PyTorch's DataLoader does.
    """

    def __post_init__(self) -> None:
        self._tf = tf = import_tensorflow()
        with tf.device("CPU"):
            self._images = tf.constant(self.split.pixels)
        self._arrays = Arrays(
            pad=lambda images, n: tf.pad(images, [[0, 0], [n, n], [n, n], [0, 0]]),
            # By rows, then by columns: much faster than pixel by pixel.
            take=lambda images, rows, columns: tf.gather(
                tf.gather(images, rows, axis=1, batch_dims=1), columns, axis=2, batch_dims=1
            ),
            where=tf.where,
        )

    def epoch(self, epoch: int, first_batch: int = 0) -> Iterator[Batch]:
        data, workers = self._tf.data, self.options.workers
        order, draws = self.remaining(epoch, first_batch)
        slices = data.Dataset.from_tensor_slices((order, self.split.labels[order], draws))
        dataset = slices.batch(self.batch_size)
        apply = self.augmentation.apply
        assert apply is not None

        def make_batch(indices: Any, labels: Any, draws: Any) -> tuple[Any, Any]:
            return apply(self._arrays, self._tf.gather(self._images, indices), draws), labels

        if workers == 0:
            dataset = dataset.map(make_batch)
        else:
            calls = data.AUTOTUNE if workers == "auto" else workers
            dataset = dataset.map(make_batch, num_parallel_calls=calls, deterministic=True)
            dataset = dataset.prefetch(self.options.prefetch)
        options = data.Options()
        # The pool is private because TensorFlow's own would compete with XLA's for the cores.
        if workers != "auto":
            options.threading.private_threadpool_size = max(1, workers)
            options.threading.max_intra_op_parallelism = 1
            options.autotune.enabled = False
        for images, labels in dataset.with_options(options).as_numpy_iterator():
            yield Batch(images, labels)


@dataclass(eq=False)
class ResidentLoader(Loader):
    """Batches cut by the training step from uint8 images on the device (150 MB for CIFAR-10)."""

    has_workers = False

    @classmethod
    def check(cls, split: Split, augmentation: Augmentation) -> None:
        if sees_pictures(augmentation, split):
            raise UserError(
                "--loader resident keeps images of the network's size on the device: leave it out "
                "for images of any size, and for --augment resized-crop"
            )

    def __post_init__(self) -> None:
        self.check(self.split, self.augmentation)
        self._data_set = jax.device_put((self.split.pixels, self.split.labels))

    def epoch(self, epoch: int, first_batch: int = 0) -> Iterator[tuple[Any, ...]]:
        order, draws = self.remaining(epoch, first_batch)
        for start in range(0, len(order), self.batch_size):
            batch = slice(start, start + self.batch_size)
            drawn = {name: values[batch] for name, values in draws.items()}
            yield *self._data_set, order[batch], drawn

    def arguments(self, size: int) -> tuple[Any, ...]:
        images, labels = (jax.ShapeDtypeStruct(x.shape, x.dtype) for x in self._data_set)
        number = jax.ShapeDtypeStruct((size,), np.int32)
        return images, labels, number, dict.fromkeys(self.augmentation.draws, number)

    def read(
        self, images: jax.Array, labels: jax.Array, indices: jax.Array, draws: dict[str, jax.Array]
    ) -> Batch:
        """Picks (batch,) `indices` of all images and labels, and augments by their draws."""
        apply = self.augmentation.apply
        assert apply is not None
        return Batch(apply(JAX, images[indices], draws), labels[indices])


LOADERS: dict[str, type[Loader]] = {"tfdata": TfDataLoader, "resident": ResidentLoader}


@dataclass(frozen=True)
class LoaderOptions(WorkerOptions):
    """How images are fed: this changes the speed, and never the result."""

    loader: Annotated[str, one_of(LOADERS, "loader")] = unpublished("tfdata", affects="time")
    """tfdata: batches are made on the host. resident: the whole set is kept on the device, and
    the step augments."""
    sync_each_step: bool = option(
        False, affects="time", published=False, says="waiting for each step"
    )
    """Wait for each step before the next batch is asked for, as without asynchronous dispatch:
    the device then stands idle while the loop waits for data. For diagnosis; on a CPU the call
    runs the step anyway."""

    @property
    def kind(self) -> type[Loader]:
        return LOADERS[self.loader]

    @property
    def title(self) -> str:
        """Of the loader as the command line names it, with its workers."""
        workers = f" with {describe_workers(self.workers)}" if self.kind.has_workers else ""
        return f"{self.loader} loader{workers}"

    def check(self) -> None:
        """Raises UserError for workers of a loader that has none."""
        for name in ("workers", "prefetch"):
            value = getattr(self, name)
            if not self.kind.has_workers and value != getattr(LoaderOptions(), name):
                raise UserError(
                    f"--{name} {value} is for a loader with workers, but --loader is "
                    f"{self.loader}: leave one out"
                )

    def create(
        self, split: Split, augmentation: Augmentation, batch_size: int, seed: int
    ) -> Loader:
        """The loader over a split's training batches."""
        self.kind.check(split, augmentation)
        kind = PictureLoader if sees_pictures(augmentation, split) else self.kind
        return kind(split, augmentation, batch_size, seed, self)


def eval_batches(
    split: Split, batch_size: int, options: WorkerOptions
) -> Iterator[tuple[Batch, np.ndarray]]:
    """All images in order, without augmentation, each batch with a mask (batch,) bool.

    The last batch is padded to the full size, so that one compiled step serves them all; the
    mask is False for the padding. Workers make batches of pictures; images in memory are there.
    """
    if split.in_memory:
        starts = range(0, len(split), batch_size)
        parts = (slice(start, start + batch_size) for start in starts)
        batches = (Batch(split.pixels[part], split.labels[part]) for part in parts)
    else:
        batches = PictureLoader(split, AUGMENTATIONS["none"], batch_size, 0, options).in_order()
    for images, labels in batches:
        mask = np.arange(batch_size) < len(labels)
        if missing := batch_size - len(labels):
            images = np.pad(images, ((0, missing), (0, 0), (0, 0), (0, 0)))
            labels = np.pad(labels, (0, missing))
        yield Batch(images, labels), mask
