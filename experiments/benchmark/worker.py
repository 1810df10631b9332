"""A contestant's process: `python -m experiments.benchmark.worker MODULE SETTINGS`.

MODULE.set_up(SETTINGS read as JSON) gets ready and returns what there is to say about that, and a
function that does so many repetitions. Both answers go to standard output, a JSON line each: one
when ready, one for each count read from standard input, until that ends.
Imports no framework, so that the contestant's is the only one.
"""

import importlib
import json
import os
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

Answer = dict[str, Any]
# A count -> {"seconds": [of each part timed on its own], "images": how many in all}.
Repeat = Callable[[int], Answer]

MATRIX_SIZE = 2048
_PRODUCTS = 5


def random_batch(batch_size: int, image_size: int, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Images (batch, height, width, 3) uint8 and labels (batch,) int32, always the same ones."""
    generator = np.random.default_rng(0)
    shape = (batch_size, image_size, image_size, 3)
    images = generator.integers(256, size=shape, dtype=np.uint8)
    return images, generator.integers(classes, size=batch_size, dtype=np.int32)


def random_matrix() -> np.ndarray:
    """(MATRIX_SIZE, MATRIX_SIZE) float32, normally distributed."""
    return np.random.default_rng(0).standard_normal((MATRIX_SIZE, MATRIX_SIZE), np.float32)


def matrix_product_gflops(multiply: Callable[[], object]) -> float:
    """The rate of a product of two such matrices, best of several. multiply: returns when done."""
    multiply()
    best = min(_timed(multiply) for _ in range(_PRODUCTS))
    return 2 * MATRIX_SIZE**3 / best / 1e9


def repeat_steps(step: Callable[[], object], batch_size: int) -> Repeat:
    """Repeats a training step on one batch. step: returns when the step is done."""

    def repeat(count: int) -> Answer:
        return {"seconds": [_timed(step) for _ in range(count)], "images": count * batch_size}

    return repeat


def _timed(function: Callable[[], object]) -> float:
    started = time.perf_counter()
    function()
    return time.perf_counter() - started


def main() -> None:
    """Gets ready, then answers until standard input ends."""
    answers = _take_standard_output()
    module, settings = sys.argv[1:]
    started = time.perf_counter()
    contestant = importlib.import_module(module)
    import_seconds = time.perf_counter() - started
    ready, repeat = contestant.set_up(json.loads(settings))
    start = {"import_seconds": import_seconds, **ready, "peak_memory_mb": _peak_memory_mb()}
    print(json.dumps(start), file=answers, flush=True)
    for line in sys.stdin:
        faults = _page_faults()
        answer = repeat(int(line))
        faults = _page_faults() - faults
        answer |= {"page_faults": faults, "peak_memory_mb": _peak_memory_mb()}
        print(json.dumps(answer), file=answers, flush=True)


def _take_standard_output():
    """A file for the answers; what libraries print goes to standard error instead."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return answers


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
