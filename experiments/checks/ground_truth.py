"""A loader with a known delay and a device with a known duration, which keep their own times."""

import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from jaxresnet.train.clock import StepWatcher


@dataclass(frozen=True)
class Case:
    """How a loader and a device behave.

    Attributes:
      delay, duration: of a batch and of a step, in seconds.
      dispatched: the call returns at once, as on a GPU; else it runs the step, as on a CPU here.
      ahead: batches are made while the device computes, as by workers; else when asked for.
      sync: the loop waits for each step.
    """

    delay: float
    duration: float
    dispatched: bool = False
    ahead: bool = False
    sync: bool = False

    @property
    def expected_stall(self) -> float:
        """Of each step but the first: what is not hidden behind the step before."""
        overlaps = self.ahead or (self.dispatched and not self.sync)
        return max(0.0, self.delay - (self.duration if overlaps else 0.0))


@dataclass(frozen=True)
class Split:
    """Seconds in all the steps of a case but the first."""

    stall: float
    compute: float


class _Loss:
    """A device value that is there when a computation is done."""

    def __init__(self, computation: Future[None]):
        self.block_until_ready = computation.result

    def __array__(self, *_args: Any, **_options: Any) -> np.ndarray:
        return np.zeros(())


def run_case(case: Case, steps: int) -> tuple[Split, Split]:
    """The loop's own clock and watcher on the case: (what they measured, what truly passed).

    The truth is from the times at which the loader and the device themselves were done, so that
    a sleep that lasts too long on a busy machine is no error.
    """
    made, done = [], []

    def make_batch(_: int) -> tuple[()]:
        time.sleep(case.delay)
        made.append(time.perf_counter())
        return ()

    def compute() -> None:
        time.sleep(case.duration)
        done.append(time.perf_counter())

    with ThreadPoolExecutor(1) as workers, ThreadPoolExecutor(1) as device:

        def step(_images: int) -> dict[str, Any]:
            computation = device.submit(compute)
            if not case.dispatched:
                computation.result()
            return {"loss": _Loss(computation), "correct": 0, "finite": True}

        batches = (workers.map if case.ahead else map)(make_batch, range(steps))
        with StepWatcher() as watcher:
            for number in range(steps):
                position = {"step": number, "epoch": 0, "batch": number, "images": 1}
                watcher.take_step(position, batches, step, sync=case.sync)
            records = watcher.wait()[1:]
    stalls = [max(0.0, ready - free) for ready, free in zip(made[1:], done[:-1], strict=True)]
    return (
        Split(sum(r["input_stall"] for r in records), sum(r["compute"] for r in records)),
        Split(sum(stalls), done[-1] - done[0] - sum(stalls)),
    )
