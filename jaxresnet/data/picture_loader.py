"""The loader of images of any size: a pool of threads, each of which makes parts of batches."""

import math
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np

from jaxresnet import platform
from jaxresnet.data.dataset import Batch
from jaxresnet.data.loader_base import HostLoader
from jaxresnet.data.pictures import take_view
from jaxresnet.data.tensorflow import import_tensorflow
from jaxresnet.random import generator

_ALIGNMENT = 64  # bytes, of arrays that XLA need not copy
_PART = 16  # pictures of a batch that a worker takes at a time, so that all end it together


@dataclass(eq=False)
class PictureLoader(HostLoader):
    """Batches of views of pictures, each batch shared out among the workers.

    They are threads, for decoders let go of Python.
    """

    def __post_init__(self) -> None:
        if not self.split.in_memory:
            import_tensorflow()  # takes seconds, for which the first batch would be waited

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
