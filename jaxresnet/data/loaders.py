"""Loaders: what turns a split into the batches of an epoch. To add one, see LOADERS.

All loaders give the same batches, bit for bit, whatever their workers: see augment.py.
"""

import math
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, ClassVar, Literal

import jax
import numpy as np

from jaxresnet import platform
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

_ALIGNMENT = 64  # bytes, of arrays that XLA need not copy
_PART = 16  # pictures of a batch that a worker takes at a time, so that all end it together


def describe_workers(workers: Workers) -> str:
    """0 workers, 1 worker, auto workers."""
    return "auto workers" if workers == "auto" else plural(workers, "worker")


@dataclass(eq=False)
class Loader(ABC):
    """Turns (epoch, first batch) into what `read`, a part of the step, makes a batch of.

    Attributes:
      has_workers: whether --workers and --prefetch mean something to it.
    """

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


class HostLoader(Loader):
    """Batches made on the host, by as many threads as asked for.

    Images stay uint8 until they are on the device, a quarter of the bytes.
    """

    has_workers = True

    def arguments(self, size: int) -> tuple[Any, ...]:
        images = jax.ShapeDtypeStruct((size, *(self.split.image_size,) * 2, 3), np.uint8)
        return images, jax.ShapeDtypeStruct((size,), np.int32)

    def read(self, images: jax.Array, labels: jax.Array) -> Batch:
        return Batch(images, labels)


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
class PictureLoader(HostLoader):
    """Batches of views of pictures, each batch shared out among the workers.

    They are threads, for decoders let go of Python.
    """

    def epoch(self, epoch: int, first_batch: int = 0) -> Iterator[Batch]:
        order, _ = self.remaining(epoch, first_batch)
        return self._batches(epoch, order)

    def in_order(self) -> Iterator[Batch]:
        """All images once, the last batch short."""
        return self._batches(0, np.arange(len(self.split)))

    def _batches(self, epoch: int, order: np.ndarray) -> Iterator[Batch]:
        workers = self.options.workers
        pool = ThreadPoolExecutor(platform.cpu_threads() if workers == "auto" else workers or 1)
        ahead = self.options.prefetch + 1 if workers else 0

        def begin(start: int) -> tuple[Batch, list[Future[None]]]:
            """A batch, and the parts of it that are not there yet."""
            indices = order[start : start + self.batch_size]
            images = _aligned_pixels(len(indices), *(self.split.image_size,) * 2, 3)
            batch = Batch(images, self.split.labels[indices])
            if workers == 0:
                self._take_views(images, indices, epoch)
                return batch, []
            parts = [slice(i, i + _PART) for i in range(0, len(indices), _PART)]
            take = self._take_views
            return batch, [pool.submit(take, images[p], indices[p], epoch) for p in parts]

        def finish(batch: Batch, parts: list[Future[None]]) -> Batch:
            for part in parts:
                part.result()
            return batch

        begun: deque[tuple[Batch, list[Future[None]]]] = deque()
        try:
            for start in range(0, len(order), self.batch_size):
                begun.append(begin(start))
                if len(begun) > ahead:
                    yield finish(*begun.popleft())
            for each in begun:
                yield finish(*each)
        finally:
            pool.shutdown(cancel_futures=True)

    def _take_views(self, images: np.ndarray, indices: np.ndarray, epoch: int) -> None:
        """Fills in images (n, size, size, 3)."""
        view, size = self.augmentation.view, self.split.image_size
        assert view is not None
        for image, index in zip(images, indices.tolist(), strict=True):
            draw = generator("view", self.seed, epoch, index)
            image[:] = take_view(self.split.images, index, size, partial(view, draw))


def _aligned_pixels(*shape: int) -> np.ndarray:
    """Uninitialised uint8, which a CPU's device takes as it is; what lies elsewhere it copies."""
    size = math.prod(shape)
    memory = np.empty(size + _ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % _ALIGNMENT
    return memory[start : start + size].reshape(shape)


@dataclass(eq=False)
class ResidentLoader(Loader):
    """Batches cut by the training step from uint8 images on the device (150 MB for CIFAR-10)."""

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
    """Threads that make batches for the tfdata loader. 0: in line. auto: it chooses."""
    prefetch: int = option(2, affects="time", published=False, says="prefetch {}", at_least=0)
    """Finished batches that the tfdata loader keeps ready besides those that its workers make;
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
