"""The loader's time against its number of workers."""

import time
from collections.abc import Callable, Mapping, Sequence
from itertools import count
from statistics import median

from experiments.harness.command import say
from experiments.harness.run import Run
from experiments.harness.settings import make_variants
from jaxresnet.data.loaders import Loader, LoaderOptions, describe_workers
from jaxresnet.errors import UserError
from jaxresnet.train.log import append_json_line, read_json_lines

_STEP, _MOST = 4, 64  # 0, 4, 8, … workers

# Seconds, by the number of workers.
Times = Mapping[int, Sequence[float]]


def time_pass(loader: Loader, epoch: int) -> tuple[int, float]:
    """Of an epoch's batches with no training, their number and the seconds that they take."""
    start = time.perf_counter()
    batches = sum(1 for _ in loader.epoch(epoch))
    return batches, time.perf_counter() - start


def time_loader(run: Run, chosen: Sequence[int], repeats: int) -> dict[int, list[float]]:
    """Passes over the training images; the first of each number is its start-up.

    Passes that an earlier start made are not made again. chosen: as in `search`.
    """
    path = run.directory / "passes.jsonl"
    made: dict[int, list[float]] = {}
    for line in read_json_lines(path):
        if line["pass"] == 0:  # a number that was cut short is timed anew
            made[line["workers"]] = []
        made[line["workers"]].append(line["seconds"])

    def measure(workers: int) -> list[float]:
        if len(made.get(workers, ())) == repeats + 1:
            return made[workers]
        times = []
        (variant, *_) = make_variants(run.settings, workers=[workers])
        loader = run.training(variant).loader
        for repeat in range(repeats + 1):
            batches, seconds = time_pass(loader, repeat)
            times.append(seconds)
            line = {"workers": workers, "pass": repeat, "batches": batches, "seconds": seconds}
            append_json_line(path, {"data": run.dataset.title, **line})
        typical = f"{median(times[1:]):.3f} s a pass"
        say(run.console, f"the loader alone, {describe_workers(workers)}: {typical}")
        return times

    return search(measure, chosen)


def search(measure: Callable[[int], list[float]], chosen: Sequence[int]) -> dict[int, list[float]]:
    """Measures the chosen numbers, or 0, 4, 8, … until a median, the first apart, does not fall."""
    times: dict[int, list[float]] = {}
    previous = float("inf")
    for workers in chosen or count(0, _STEP):
        times[workers] = measure(workers)
        typical = median(times[workers][1:])
        if not chosen and (typical >= previous or workers >= _MOST):
            break
        previous = typical
    return times


def check_workers(loader: LoaderOptions) -> None:
    """Raises UserError for options that make no sense where the number of workers varies."""
    if not loader.kind.has_workers:
        raise UserError(f"--loader is {loader.loader}, which has no workers: leave it out")
    if loader.workers != LoaderOptions().workers:
        raise UserError(
            f"--workers is {loader.workers}, but this experiment varies the number: leave it out "
            "(--workers-list of c3_workers and --best of c4_profiling choose numbers)"
        )
