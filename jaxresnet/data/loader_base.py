"""What loaders have in common, and how many workers those on the host have."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import jax
import numpy as np

from jaxresnet.data.augment import Augmentation, plan_epoch, sees_pictures
from jaxresnet.data.dataset import Batch, Split
from jaxresnet.options import option, plural

Workers = int | Literal["auto"]


def describe_workers(workers: Workers) -> str:
    """0 workers, 1 worker, auto workers."""
    return "auto workers" if workers == "auto" else plural(workers, "worker")


@dataclass(frozen=True)
class WorkerOptions:
    """How the host makes batches: this changes the speed, and never the result."""

    workers: Workers = option(2, affects="time", published=False, says=describe_workers, at_least=0)
    """Threads that make batches for the tfdata loader. 0: in line. auto: tf.data chooses; for
    images in files, one for each core."""
    prefetch: int = option(2, affects="time", published=False, says="prefetch {}", at_least=0)
    """Finished batches that the tfdata loader keeps ready besides those that its workers make;
    none with 0 workers."""


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
    options: WorkerOptions

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
