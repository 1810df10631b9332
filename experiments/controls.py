"""Two controls that bound an epoch's time: the loop on one cached batch, and the loader alone."""

import itertools
import json
import time
from dataclasses import asdict, dataclass
from statistics import median

from experiments.results import Results
from experiments.runner import Run
from experiments.variants import Variant
from jaxresnet.report.tables import Table, number
from jaxresnet.train.metrics import write_json
from jaxresnet.train.timing import Place, StepRecord, StepWatcher

_FILE = "controls.json"
# The loop on one batch goes on for so many seconds, or as many steps as an epoch has.
_LOOP_SECONDS = 20.0
_LEAST_STEPS = 3
_LOADER_PASSES = 3


@dataclass(frozen=True)
class Controls:
    """Seconds. cached_batch: of each step, waiting for input included. loader_passes: of whole
    epochs with no training. batches: of an epoch; a short last one counts by its images.
    """

    cached_batch: list[float]
    loader_passes: list[float]
    batches: float

    @property
    def computing(self) -> float:
        """An epoch's steps on a batch that is there already."""
        return median(self.cached_batch) * self.batches

    @property
    def loading(self) -> float:
        """A pass of the loader, the first apart."""
        return median(self.loader_passes[1:])


def measure_controls(run: Run, variant: Variant) -> None:
    """Writes both to the run's directory, unless an earlier start did."""
    if (run.directory / _FILE).exists():
        return
    training = run.training(variant)
    passes = []
    for epoch in range(_LOADER_PASSES + 1):
        start = time.perf_counter()
        for _ in training.loader.epoch(epoch):
            pass
        passes.append(time.perf_counter() - start)

    state = training.initial_state
    programs = run.compiler(variant)(training, state)
    first = next(iter(training.loader.epoch(0)))

    def step(images: int, *arguments):
        nonlocal state
        state, metrics = programs.train[images](state, *arguments)
        return metrics

    size = training.batch_size
    records: list[StepRecord] = []
    with StepWatcher() as watcher:
        start = time.perf_counter()
        for count in range(training.steps_per_epoch + 1):
            place = Place(count, 0, count, size)
            watcher.take_step(place, itertools.repeat(first), step, sync=training.sync_each_step)
            if count >= _LEAST_STEPS and time.perf_counter() - start > _LOOP_SECONDS:
                break
        records += watcher.wait()
    cached = [record.input_stall + record.compute for record in records[1:]]  # the first warms up
    controls = Controls(cached, passes, training.train_size / training.batch_size)
    write_json(run.directory / _FILE, asdict(controls))


def has_controls(results: Results) -> bool:
    """Not where a training diverged."""
    return (results.directory / _FILE).exists()


def read_controls(results: Results) -> Controls:
    return Controls(**json.loads((results.directory / _FILE).read_text(encoding="utf-8")))


def controls_table(controls: Controls, epochs: list[float], words: str) -> Table:
    """epochs: the seconds of each epoch of the run."""
    rows = [
        _row("the loop on one cached batch", controls.computing, controls.batches),
        _row("the loader alone", controls.loading, controls.batches),
        _row("their sum", controls.computing + controls.loading, controls.batches),
        _row("this run's epochs, median", median(epochs), controls.batches),
    ]
    note = (
        "Seconds. An epoch can take no less than the greater of the first two, and no more than "
        f"their sum, but for noise. Medians: of {len(controls.cached_batch)} steps on the cached "
        f"batch, of {_LOADER_PASSES} passes of the loader after a first one, of epochs without "
        "the first, where there are several."
    )
    columns = ["", "per batch", "per epoch"]
    return Table(f"Controls ({words})", columns, rows, note)


def controls_finding(controls: Controls, epochs: list[float], *, is_first: bool) -> str:
    """Whether the run's median epoch lies within the bounds. is_first: none came later."""
    least, most = (
        max(controls.computing, controls.loading),
        controls.computing + controls.loading,
    )
    found = median(epochs)
    place = "within the bounds"
    if found > most:
        place = f"{found / most - 1:.1%} above the upper bound"
    elif found < least:
        place = f"{1 - found / least:.1%} below the lower bound"
    what = f"the one measured took {number(found)} s"
    if len(epochs) > 1:
        what = f"the median took {number(found)} s ({number(min(epochs))} to {number(max(epochs))})"
    start = " It was the first, which has the start-up in it." if is_first else ""
    return (
        f"By the controls an epoch takes at least {number(least)} and at most {number(most)} s; "
        f"{what}, {place}.{start}"
    )


def _row(name: str, seconds: float, batches: float) -> list[str]:
    return [name, number(seconds / batches, 4), number(seconds)]
