"""Two controls that bound an epoch's time: the loop on one cached batch, and the loader alone."""

import itertools
import json
import time
from dataclasses import asdict, dataclass
from statistics import median

import jax

from experiments.harness.loader_times import time_pass
from experiments.harness.run import Run
from experiments.harness.settings import Variant
from jaxresnet.report.tables import Column, Table, make_table
from jaxresnet.train.clock import StepWatcher
from jaxresnet.train.log import write_json
from jaxresnet.train.step import Metrics

# The loop on one batch goes on for so many seconds, or as many steps as an epoch has.
_LOOP_SECONDS = 20.0
_LEAST_STEPS = 3
_LOADER_PASSES = 3


@dataclass(frozen=True)
class Controls:
    """Times are in seconds.

    Attributes:
      cached_batch: of each step, waiting for input included.
      loader_passes: of whole epochs with no training.
      batches: of an epoch; a short last one counts by its images.
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


def measure(run: Run, variant: Variant) -> Controls:
    """Those that an earlier start left in the run's directory are not measured again."""
    path = run.directory / "controls.json"
    if path.exists():
        return Controls(**json.loads(path.read_text(encoding="utf-8")))
    training = run.training(variant)
    passes = [time_pass(training.loader, epoch)[1] for epoch in range(_LOADER_PASSES + 1)]
    state = training.initial_state
    programs = run.compile(training, state)
    first = jax.device_put(tuple(next(iter(training.loader.epoch(0)))))

    def step(images: int, *batch: object) -> Metrics:
        nonlocal state
        state, metrics = programs.train[images](state, *batch)
        return metrics

    size = training.batch_size
    with StepWatcher() as watcher:
        start = time.perf_counter()
        for count in range(training.steps_per_epoch + 1):
            position = {"step": count, "epoch": 0, "batch": count, "images": size}
            watcher.take_step(
                position, itertools.repeat(first), step, sync=training.feeding.sync_each_step
            )
            if count >= _LEAST_STEPS and time.perf_counter() - start > _LOOP_SECONDS:
                break
        records = watcher.wait()
    cached = [r["input_stall"] + r["compute"] for r in records[1:]]  # the first warms up
    controls = Controls(cached, passes, len(run.dataset.train) / size)
    write_json(path, asdict(controls))
    return controls


def make_controls_table(controls: Controls, epochs: list[float], images: str) -> Table:
    """epochs: the seconds of each epoch of the run."""
    rows = [
        ("the loop on one cached batch", controls.computing),
        ("the loader alone", controls.loading),
        ("their sum", controls.computing + controls.loading),
        ("this run's epochs, median", median(epochs)),
    ]
    note = (
        "Seconds. An epoch can take no less than the greater of the first two, and no more than "
        f"their sum, but for noise. Medians: of {len(controls.cached_batch)} steps on the cached "
        f"batch, of {_LOADER_PASSES} passes of the loader after a first one, of epochs without "
        "the first, where there are several."
    )
    columns: list[Column[tuple[str, float]]] = [
        Column("", lambda row: row[0]),
        Column("per batch", lambda row: row[1] / controls.batches, 4),
        Column("per epoch", lambda row: row[1]),
    ]
    return make_table(f"Controls ({images})", columns, rows, note)


def describe_bounds(controls: Controls, epochs: list[float], *, is_first: bool) -> str:
    """Whether the run's median epoch lies within the bounds. is_first: none came later."""
    least = max(controls.computing, controls.loading)
    most = controls.computing + controls.loading
    middle = median(epochs)
    where = "within the bounds"
    if middle > most:
        where = f"{middle / most - 1:.1%} above the upper bound"
    elif middle < least:
        where = f"{1 - middle / least:.1%} below the lower bound"
    what = f"the one measured took {middle:.2f} s"
    if len(epochs) > 1:
        what = f"the median took {middle:.2f} s ({min(epochs):.2f} to {max(epochs):.2f})"
    start = " It was the first, which has the start-up in it." if is_first else ""
    return (
        f"By the controls an epoch takes at least {least:.2f} and at most {most:.2f} s; {what}, "
        f"{where}.{start}"
    )
