"""A contestant's process: `python -m experiments.bench.worker MODULE SETTINGS`.

MODULE.set_up(SETTINGS read as JSON) gets ready and returns a description of that, and a function
that repeats the work. Answers go to standard output, a JSON line each: one when ready, one for each
count of repetitions read from standard input, and {"error": message} if something fails.
Imports no framework, so that the contestant's is the only one.
"""

import importlib
import itertools
import json
import os
import resource
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

Answer = dict[str, Any]
# A count -> {"seconds": [of each part timed on its own], "images": how many in all}.
Repeat = Callable[[int], Answer]

_MATRIX_SIZE = 2048
_PRODUCTS = 5


def set_up_steps(
    make_step: Callable[[np.ndarray, np.ndarray], Callable[[], object]],
    make_product: Callable[[np.ndarray], Callable[[], object]],
    settings: dict[str, Any],
) -> tuple[Answer, Repeat]:
    """Gets ready to repeat a training step on one random batch, the same for every contestant.

    Args:
      make_step: images (batch, size, size, 3) uint8 and labels (batch,) int32 -> a function that
        takes a training step on them and returns when it is done.
      make_product: a square float32 matrix -> a function that multiplies it by itself and returns
        when that is done.
    """
    started = time.perf_counter()
    size, batch_size = settings["image_size"], settings["batch_size"]
    generator = np.random.default_rng(0)
    images = generator.integers(256, size=(batch_size, size, size, 3), dtype=np.uint8)
    step = make_step(images, generator.integers(settings["classes"], size=batch_size, dtype="i4"))
    step()
    first_step_seconds = time.perf_counter() - started
    for _ in range(settings["warmup"] - 1):
        step()
    matrix = np.random.default_rng(0).standard_normal((_MATRIX_SIZE, _MATRIX_SIZE), np.float32)
    product = make_product(matrix)
    product()
    best = min(_timed(product) for _ in range(_PRODUCTS))
    ready = {
        "first_step_seconds": first_step_seconds,
        "matrix_product_gflops": 2 * _MATRIX_SIZE**3 / best / 1e9,
    }
    return ready, lambda count: {
        "seconds": [_timed(step) for _ in range(count)],
        "images": count * batch_size,
    }


def set_up_loader(
    make_epochs: Callable[[], Callable[[], Iterator[int]]], settings: dict[str, Any]
) -> tuple[Answer, Repeat]:
    """Gets ready to feed epochs of batches. make_epochs: makes the loader, and then a function that
    begins an epoch: an iterator that makes a batch at a time and gives how many images it has.
    """
    started = time.perf_counter()
    begin_epoch = make_epochs()

    def repeat(count: int) -> Answer:
        started = time.perf_counter()
        batches = begin_epoch()
        images = sum(itertools.islice(batches, count))
        del batches  # ends its workers
        return {"seconds": [time.perf_counter() - started], "images": images}

    repeat(settings["warmup"])
    return {"set_up_seconds": time.perf_counter() - started}, repeat


def _timed(function: Callable[[], object]) -> float:
    started = time.perf_counter()
    function()
    return time.perf_counter() - started


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
        ready, repeat = contestant.set_up(json.loads(settings))
        answer(import_seconds=import_seconds, **ready, peak_memory_mb=_peak_memory_mb())
        for line in sys.stdin:
            faults = _page_faults()
            result = repeat(int(line))
            faults = _page_faults() - faults
            answer(**result, page_faults=faults, peak_memory_mb=_peak_memory_mb())
    except Exception as error:
        answer(error="".join(traceback.format_exception_only(error)))


def _page_faults() -> int:
    """Pages that this process has been given so far without reading from a disk."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt


def _peak_memory_mb() -> float:
    """The most memory that this process has held, in MB.

    From /proc where there is one: ru_maxrss also counts what the parent held when it forked.
    """
    try:
        status = Path("/proc/self/status").read_text(encoding="utf-8")
        return int(status.partition("VmHWM:")[2].split()[0]) * 1024 / 1e6
    except (OSError, IndexError):
        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


if __name__ == "__main__":
    main()
