"""Loaders: what turns a split into the batches of an epoch. To add one, see LOADERS.

All loaders give the same batches, bit for bit, whatever their workers: see augment.py.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import jax
import numpy as np

from jaxresnet.data.augment import JAX, Arrays, Augmentation, plan_epoch
from jaxresnet.data.dataset import Batch, Split
from jaxresnet.data.tensorflow import import_tensorflow
from jaxresnet.errors import UserError
from jaxresnet.options import one_of, option, plural, unpublished

Workers = int | Literal["auto"]


def describe_workers(workers: Workers) -> str:
    """0 workers, 1 worker, auto workers."""
    return "auto workers" if workers == "auto" else plural(workers, "worker")


@dataclass(eq=False)
class Loader(ABC):
    """Turns (epoch, first batch) into what `read`, a part of the step, makes a batch of.

    Attributes:
      title: for reports.
      has_workers: whether --workers and --prefetch mean something to it.
    """

    title: ClassVar[str]
    has_workers: ClassVar[bool]
    split: Split
    augmentation: Augmentation
    batch_size: int
    seed: int
    options: "LoaderOptions"

    def remaining(self, epoch: int, first_batch: int) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """From `first_batch` of the epoch on, the images' indices in order, and their draws."""
        plan = plan_epoch(self.augmentation, self.seed, epoch, len(self.split))
        order = plan.order[first_batch * self.batch_size :]
        return order, {name: drawn[order] for name, drawn in plan.draws.items()}

    @abstractmethod
    def epoch(self, epoch: int, first_batch: int = 0) -> Iterator[tuple[Any, ...]]:
        """The arguments of `read` for each batch from `first_batch` on, the last one short."""

    @abstractmethod
    def arguments(self, size: int) -> tuple[Any, ...]:
        """Shapes and dtypes of the arguments of `read` for a batch of that many images."""

    @abstractmethod
    def read(self, *args: Any, **kwargs: Any) -> Batch:
        """A pure function, traced into the training step."""


@dataclass(eq=False)
class TfDataLoader(Loader):
    """Batches from tf.data, augmented on the host on as many threads as asked for.

    One parallel call makes one whole batch, as a worker of PyTorch's DataLoader does. Images stay
    uint8 until they are on the device, a quarter of the bytes.
    """

    title = "tf.data loader"
    has_workers = True

    def __post_init__(self) -> None:
        self._tf = tf = import_tensorflow()
        with tf.device("CPU"):
            self._images = tf.constant(self.split.images)
        self._arrays = Arrays(
            pad=lambda images, n: tf.pad(images, [[0, 0], [n, n], [n, n], [0, 0]]),
            # By rows, then by columns: much faster than pixel by pixel.
            take=lambda images, rows, columns: tf.gather(
                tf.gather(images, rows, axis=1, batch_dims=1), columns, axis=2, batch_dims=1
            ),
            where=tf.where,
        )

    def _make_batch(self, indices: Any, labels: Any, draws: Any) -> tuple[Any, Any]:
        images = self._tf.gather(self._images, indices)
        return self.augmentation.apply(self._arrays, images, draws), labels

    def epoch(self, epoch: int, first_batch: int = 0) -> Iterator[Batch]:
        data, workers = self._tf.data, self.options.workers
        order, draws = self.remaining(epoch, first_batch)
        slices = data.Dataset.from_tensor_slices((order, self.split.labels[order], draws))
        dataset = slices.batch(self.batch_size)
        if workers == 0:
            dataset = dataset.map(self._make_batch)
        else:
            calls = data.AUTOTUNE if workers == "auto" else workers
            dataset = dataset.map(self._make_batch, num_parallel_calls=calls, deterministic=True)
            dataset = dataset.prefetch(self.options.prefetch)
        options = data.Options()
        # The pool is private because TensorFlow's own would compete with XLA's for the cores.
        if workers != "auto":
            options.threading.private_threadpool_size = max(1, workers)
            options.threading.max_intra_op_parallelism = 1
            options.autotune.enabled = False
        for images, labels in dataset.with_options(options).as_numpy_iterator():
            yield Batch(images, labels)

    def arguments(self, size: int) -> tuple[Any, ...]:
        images = jax.ShapeDtypeStruct((size, *self.split.images.shape[1:]), np.uint8)
        return images, jax.ShapeDtypeStruct((size,), np.int32)

    def read(self, images: jax.Array, labels: jax.Array) -> Batch:
        return Batch(images, labels)


@dataclass(eq=False)
class ResidentLoader(Loader):
    """Batches cut by the training step from uint8 images on the device (150 MB for CIFAR-10)."""

    title = "resident loader (the data set is on the device)"
    has_workers = False

    def __post_init__(self) -> None:
        self._data_set = jax.device_put(self.split.images), jax.device_put(self.split.labels)

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
        return Batch(self.augmentation.apply(JAX, images[indices], draws), labels[indices])


LOADERS: dict[str, type[Loader]] = {"tfdata": TfDataLoader, "resident": ResidentLoader}


@dataclass(frozen=True)
class LoaderOptions:
    """How images are fed: this changes the speed, and never the result."""

    loader: Annotated[str, one_of(LOADERS, "loader")] = unpublished("tfdata", affects="time")
    """tfdata: batches are made on the host. resident: the whole set is kept on the device, and
    the step augments."""
    workers: Workers = option(2, affects="time", published=False, says=describe_workers, at_least=0)
    """Batches made at a time by the tfdata loader. 0: in line. auto: tf.data tunes."""
    prefetch: int = option(2, affects="time", published=False, says="prefetch {}", at_least=0)
    """Finished batches that the tfdata loader keeps ready besides those that its workers hold;
    none with 0 workers."""
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
        """Of the loader, with its workers."""
        workers = f" with {describe_workers(self.workers)}" if self.kind.has_workers else ""
        return f"{self.kind.title}{workers}"

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
        return self.kind(split, augmentation, batch_size, seed, self)


def eval_batches(split: Split, batch_size: int) -> Iterator[tuple[Batch, np.ndarray]]:
    """All images in order, without augmentation, each batch with a mask (batch,) bool.

    The last batch is padded to the full size, so that one compiled step serves them all; the
    mask is False for the padding.
    """
    for start in range(0, len(split), batch_size):
        images, labels = (x[start : start + batch_size] for x in (split.images, split.labels))
        mask = np.arange(batch_size) < len(labels)
        if missing := batch_size - len(labels):
            images = np.pad(images, ((0, missing), (0, 0), (0, 0), (0, 0)))
            labels = np.pad(labels, (0, missing))
        yield Batch(images, labels), mask
