"""A contestant's process: `python -m experiments.bench.worker MODULE SETTINGS`.

MODULE.set_up(SETTINGS read as JSON) gets ready and returns a description of that, and its work.
Answers go to standard output, a JSON line each: the description when ready, the times for each
count of repetitions read from standard input, and {"error": message} if something fails.
Imports no framework, so that the contestant's is the only one.
"""

import importlib
import json
import os
import resource
import sys
import time
import timeit
import traceback
from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice
from typing import Any

import numpy as np

from jaxresnet.process_memory import peak_memory

Settings = dict[str, Any]
Answer = dict[str, Any]
Work = Callable[[], int]  # returns how many images it took

_PRODUCT_SIZE, _PRODUCTS = 2048, 5
_FIRST_BATCHES = 2  # before the first round


def set_up_steps(
    settings: Settings,
    make_step: Callable[[Settings, np.ndarray, np.ndarray], Work],
    make_product: Callable[[Settings, np.ndarray], Callable[[], object]],
) -> tuple[Answer, Work]:
    """Gets ready to train on one random batch, the same for every contestant.

    Args:
      make_step: from images (batch, size, size, 3) uint8 and labels (batch,) int32. The step, like
        the product, returns when it is done.
      make_product: of a square float32 matrix and itself.
    """
    started = time.perf_counter()
    size, batch_size = settings["image_size"], settings["batch_size"]
    generator = np.random.default_rng(0)
    images = generator.integers(256, size=(batch_size, size, size, 3), dtype=np.uint8)
    labels = generator.integers(settings["classes"], size=batch_size, dtype=np.int32)
    step = make_step(settings, images, labels)
    step()
    first_step_seconds = time.perf_counter() - started
    for _ in range(settings["warmup"] - 1):
        step()
    matrix = np.random.default_rng(0).standard_normal([_PRODUCT_SIZE] * 2, np.float32)
    product = make_product(settings, matrix)
    product()
    best = min(timeit.repeat(product, number=1, repeat=_PRODUCTS))
    gflops = 2 * _PRODUCT_SIZE**3 / best / 1e9
    return {"first_step_seconds": first_step_seconds, "matrix_product_gflops": gflops}, step


def set_up_loader(
    settings: Settings, make_epochs: Callable[[Settings], Callable[[], Iterator[int]]]
) -> tuple[Answer, Work]:
    """Gets ready to feed epochs of batches.

    make_epochs: makes the loader, and of it a function that begins an epoch: an iterator that makes
    a batch at a time and gives how many images it has; its workers end with it.
    """
    started = time.perf_counter()
    begin_epoch = make_epochs(settings)

    def feed(batches: int) -> int:
        return sum(islice(begin_epoch(), batches))

    feed(_FIRST_BATCHES)
    return {"set_up_seconds": time.perf_counter() - started}, partial(feed, settings["batches"])


def main() -> None:
    """Gets ready, then answers until standard input ends."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what libraries print is no answer

    def answer(**values: Any) -> None:
        print(json.dumps(values), file=answers, flush=True)

    module, settings = sys.argv[1:]
    try:
        started = time.perf_counter()
        contestant = importlib.import_module(module)
        import_seconds = time.perf_counter() - started
        ready, work = contestant.set_up(json.loads(settings))
        answer(import_seconds=import_seconds, **ready, peak_memory_mb=peak_memory() / 1e6)
        for line in sys.stdin:
            images, seconds = 0, []
            faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
            for _ in range(int(line)):
                started = time.perf_counter()
                images += work()
                seconds.append(time.perf_counter() - started)
            faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - faults
            memory = {"page_faults": faults, "peak_memory_mb": peak_memory() / 1e6}
            answer(seconds=seconds, images=images, **memory)
    except Exception as error:
        answer(error="".join(traceback.format_exception_only(error)).strip())


if __name__ == "__main__":
    main()
