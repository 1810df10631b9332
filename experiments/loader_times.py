"""The loader's time against its number of workers, and which number is best."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import count
from statistics import median

from experiments.command import say
from experiments.runner import Run, create_loader
from experiments.settings import DataSettings
from experiments.variants import workers_words
from jaxresnet.errors import UserError
from jaxresnet.train.metrics import append_json_line, read_json_lines

BEST = "best.json"  # of a C3 run, by mode
_FILE = "passes.jsonl"
_STEP, _MOST = 4, 64  # 0, 4, 8, … workers

# Seconds, by the number of workers.
Times = Mapping[int, Sequence[float]]


def time_loader(run: Run, chosen: Sequence[int], repeats: int) -> dict[int, list[float]]:
    """Passes over the training images with no training; the first of each number is its start-up.

    chosen: the numbers of workers. None: 0, 4, 8, … until the time no longer falls.
    Passes that an earlier start made are not made again.
    """

    def measure(workers: int) -> list[float]:
        times: list[float] = []
        for line in read_json_lines(run.directory / _FILE):
            if line["workers"] == workers:
                times = [*times, line["seconds"]] if line["pass"] else [line["seconds"]]
        if len(times) == repeats + 1:
            return times
        times = []  # a number that was cut short is timed anew, with a first pass of its own
        (first, *_) = run.settings.variants()
        loader = create_loader(run.settings, run.dataset, replace(first, workers=workers))
        for repeat in range(repeats + 1):
            start = time.perf_counter()
            batches = sum(1 for _ in loader.epoch(repeat))
            times.append(time.perf_counter() - start)
            line = {"workers": workers, "pass": repeat, "batches": batches, "seconds": times[-1]}
            append_json_line(run.directory / _FILE, {"data": run.dataset.words, **line})
        typical = f"{median(times[1:]):.3f} s a pass"
        say(run.console, f"the loader alone, {workers_words(workers)}: {typical}")
        return times

    return search(measure, chosen)


def search(measure: Callable[[int], list[float]], chosen: Sequence[int]) -> dict[int, list[float]]:
    """Measures the chosen numbers, or 0, 4, 8, … until a median, the first apart, does not fall."""
    found: dict[int, list[float]] = {}
    previous = float("inf")
    for workers in chosen or count(0, _STEP):
        found[workers] = measure(workers)
        typical = median(found[workers][1:])
        if not chosen and (typical >= previous or workers >= _MOST):
            break
        previous = typical
    return found


def best_number(times: Times) -> int:
    """The smallest number of workers within one spread of the fastest.

    The spread is from the least to the greatest time of the fastest number.
    """
    fastest = min(times.values(), key=median)
    bound = median(fastest) + max(fastest) - min(fastest)
    return min(workers for workers, values in times.items() if median(values) <= bound)


def check_workers(data: DataSettings, chosen: Sequence[int]) -> None:
    """Raises UserError for options that make no sense."""
    if data.loader != "tfdata":
        raise UserError(f"--loader is {data.loader}, which has no workers: leave it out")
    if data.workers != DataSettings().workers:
        raise UserError(
            f"--workers is {data.workers}, but this experiment varies the number: leave it out "
            "(--workers-list of c3_workers and --best of c4_profiling choose numbers)"
        )
    if any(workers < 0 for workers in chosen) or len(set(chosen)) < len(chosen):
        raise UserError(
            "--workers-list takes different numbers of at least 0, such as 0 2 4, got "
            + " ".join(map(str, chosen))
        )
