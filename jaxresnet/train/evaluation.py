"""The test figures over a whole split."""

import time
from collections.abc import Callable
from typing import Any

import jax

from jaxresnet.data.dataset import Split
from jaxresnet.data.loaders import eval_batches
from jaxresnet.train.figures import Record
from jaxresnet.train.state import Arrays
from jaxresnet.train.step import Metrics


def evaluate(
    eval_step: Callable[..., Metrics],
    params: Arrays,
    batch_stats: Arrays,
    split: Split,
    batch_size: int,
    on_batch: Callable[[int, int, Record], Any] = lambda *_: None,
) -> Record:
    """Evaluates batch by batch, in order; no image is left out.

    Args:
      eval_step: make_eval_step's function, compiled or not.
      params, batch_stats: on the device, where they stay.
      on_batch: called with each batch's number, its images, and its figures' means.

    Returns:
      The means over all images, `test_images`, and `test_seconds`.
    """
    start = time.perf_counter()
    totals: Record = {}
    for number, (batch, mask) in enumerate(eval_batches(split, batch_size)):
        sums = jax.device_get(eval_step(params, batch_stats, *jax.device_put((*batch, mask))))
        count = int(mask.sum())
        values = {name: value.item() for name, value in sums.items()}
        totals = {name: totals.get(name, 0) + value for name, value in values.items()}
        on_batch(number, count, {name: value / count for name, value in values.items()})
    means = {name: total / len(split) for name, total in totals.items()}
    return {**means, "test_images": len(split), "test_seconds": time.perf_counter() - start}
