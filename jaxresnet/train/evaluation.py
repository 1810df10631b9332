"""Loss and top-1 over a whole split."""

import time
from collections.abc import Callable
from typing import Any

from jaxresnet.data.dataset import Split
from jaxresnet.data.pipeline import eval_batches
from jaxresnet.train.metrics import EvalResult
from jaxresnet.train.state import Arrays
from jaxresnet.train.step import EvalMetrics


def evaluate(
    eval_step: Callable[..., EvalMetrics],
    params: Arrays,
    batch_stats: Arrays,
    split: Split,
    batch_size: int,
    on_batch: Callable[[int, int, float, float], Any],
) -> EvalResult:
    """Evaluates batch by batch, in order; no image is left out.

    eval_step: make_eval_step's function, compiled or not.
    on_batch: called with each batch's number, images, mean loss and top-1.
    """
    start = time.perf_counter()
    loss_sum, correct = 0.0, 0
    for number, (batch, mask) in enumerate(eval_batches(split, batch_size)):
        metrics = eval_step(params, batch_stats, batch.images, batch.labels, mask)
        count, loss, right = int(mask.sum()), float(metrics.loss), int(metrics.correct)
        loss_sum += loss
        correct += right
        on_batch(number, count, loss / count, right / count)
    images, seconds = len(split), time.perf_counter() - start
    return EvalResult(loss_sum / images, correct / images, images, seconds)
