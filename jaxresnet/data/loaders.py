"""Loaders: what turns a split into the batches of an epoch. To add one, see LOADERS.

All loaders give the same batches, bit for bit, whatever their workers: see augment.py.
"""

import atexit
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, ClassVar, Literal
from weakref import WeakSet

import jax
import numpy as np

from jaxresnet.data.augment import (
    AUGMENTATIONS,
    JAX,
    Arrays,
    Augmentation,
    plan_epoch,
    sees_pictures,
)
from jaxresnet.data.dataset import Batch, Split
from jaxresnet.data.pictures import take_view
from jaxresnet.data.tensorflow import import_tensorflow
from jaxresnet.errors import UserError
from jaxresnet.options import one_of, option, plural, unpublished
from jaxresnet.random import generator

Workers = int | Literal["auto"]

_unfinished: WeakSet[Generator[Batch]] = WeakSet()  # whose workers run Python code


@atexit.register
def _close_unfinished() -> None:
    """While Python can still be entered: later, each would wait for its workers for ever."""
    for batches in list(_unfinished):
        batches.close()


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
    options: "WorkerOptions"

    @classmethod
    def check(cls, split: Split, augmentation: Augmentation) -> None:
        """Raises UserError if it cannot serve them."""
        sees_pictures(augmentation, split)

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
    """Batches from tf.data, made on the host on as many threads as asked for.

    One parallel call makes one whole batch, as a worker of PyTorch's DataLoader does. Images stay
    uint8 until they are on the device, a quarter of the bytes.
    """

    title = "tf.data loader"
    has_workers = True

    def __post_init__(self) -> None:
        self._tf = tf = import_tensorflow()
        self._error: UserError | None = None  # of a worker
        if sees_pictures(self.augmentation, self.split):
            return
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
        order, draws = self.remaining(epoch, first_batch)
        if sees_pictures(self.augmentation, self.split):
            return self._views(epoch, order)

        apply = self.augmentation.apply
        assert apply is not None

        def augment(indices: Any, draws: Any) -> Any:
            return apply(self._arrays, self._tf.gather(self._images, indices), draws)

        return self._batches(order, draws, augment)

    def in_order(self) -> Iterator[Batch]:
        """All images once, the last batch short."""
        return self._views(0, np.arange(len(self.split)))

    def _views(self, epoch: int, order: np.ndarray) -> Iterator[Batch]:
        """Batches of views of pictures."""
        batches = self._batches(order, {}, partial(self._take_views, epoch))
        _unfinished.add(batches)
        return batches

    def _batches(
        self,
        order: np.ndarray,
        draws: dict[str, np.ndarray],
        make_images: Callable[[Any, Any], Any],
    ) -> Generator[Batch]:
        """make_images: (indices, draws) of a batch -> images."""
        data, workers = self._tf.data, self.options.workers
        slices = data.Dataset.from_tensor_slices((order, self.split.labels[order], draws))
        dataset = slices.batch(self.batch_size)

        def make_batch(indices: Any, labels: Any, draws: Any) -> tuple[Any, Any]:
            return make_images(indices, draws), labels

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
        try:
            for images, labels in dataset.with_options(options).as_numpy_iterator():
                yield Batch(images, labels)
        except self._tf.errors.OpError as error:
            raise self._error or error from None

    def _take_views(self, epoch: int, indices: Any, _draws: Any) -> Any:
        """Views of pictures (batch, size, size, 3), by Python code in a worker's thread."""
        split, seed, size = self.split, self.seed, self.split.image_size
        view = self.augmentation.view
        assert view is not None

        def take(indices: np.ndarray) -> np.ndarray:
            images = np.empty((len(indices), size, size, 3), np.uint8)
            try:
                for image, index in zip(images, indices.tolist(), strict=True):
                    draw = generator("view", seed, epoch, index)
                    image[:] = take_view(split.images, index, size, partial(view, draw))
            except UserError as error:  # TensorFlow would wrap it up in one of its own
                self._error = error
                raise
            return images

        return self._tf.numpy_function(take, [indices], self._tf.uint8)

    def arguments(self, size: int) -> tuple[Any, ...]:
        images = jax.ShapeDtypeStruct((size, *(self.split.image_size,) * 2, 3), np.uint8)
        return images, jax.ShapeDtypeStruct((size,), np.int32)

    def read(self, images: jax.Array, labels: jax.Array) -> Batch:
        return Batch(images, labels)


@dataclass(eq=False)
class ResidentLoader(Loader):
    """Batches cut by the training step from uint8 images on the device (150 MB for CIFAR-10)."""

    title = "resident loader (the data set is on the device)"
    has_workers = False

    @classmethod
    def check(cls, split: Split, augmentation: Augmentation) -> None:
        if sees_pictures(augmentation, split):
            raise UserError(
                "--loader resident keeps images of the network's size on the device: leave it out "
                "for pictures of any size, and for --augment resized-crop"
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
class WorkerOptions:
    """How the host makes batches: this changes the speed, and never the result."""

    workers: Workers = option(2, affects="time", published=False, says=describe_workers, at_least=0)
    """Batches made at a time by the tfdata loader. 0: in line. auto: tf.data tunes."""
    prefetch: int = option(2, affects="time", published=False, says="prefetch {}", at_least=0)
    """Finished batches that the tfdata loader keeps ready besides those that its workers hold;
    none with 0 workers."""


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
        batches = TfDataLoader(split, AUGMENTATIONS["none"], batch_size, 0, options).in_order()
    for images, labels in batches:
        mask = np.arange(batch_size) < len(labels)
        if missing := batch_size - len(labels):
            images = np.pad(images, ((0, missing), (0, 0), (0, 0), (0, 0)))
            labels = np.pad(labels, (0, missing))
        yield Batch(images, labels), mask
