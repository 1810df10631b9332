"""A loader with a known delay and a device with a known duration, which keep their own times."""

import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from jaxresnet.train.clock import StepWatcher

# dispatched: the call returns at once, as on a GPU; else it runs the step, as on a CPU here.
# ahead: batches are made while the device computes, as by workers; else when asked for.
# sync: the loop waits for each step.
KINDS = {
    "dispatched, in line": {"dispatched"},
    "dispatched, ahead": {"dispatched", "ahead"},
    "dispatched, in line, --sync-each-step": {"dispatched", "sync"},
    "run by the call, in line": set[str](),
    "run by the call, ahead": {"ahead"},
}
# Of the computation: errors of a stall that is shorter are taken relative to this.
_LEAST_STALL = 0.05


@dataclass(frozen=True)
class Outcome:
    """Seconds of a step, the mean of all but the first.

    Attributes:
      ratio: of the batch's delay to the step's duration.
      intended_stall: what is not hidden behind the step before.
      true_stall, true_compute: by the times at which the loader and the device themselves were
        done, so that a sleep that lasts too long on a busy machine is no error.
      stall, compute: as measured by the loop's own clock and watcher.
      stall_error, compute_error: relative; error: the larger one.
      stray: how far the measured stall is from the intended one, as a share of the step.
    """

    kind: str
    ratio: float
    intended_stall: float
    true_stall: float
    true_compute: float
    stall: float
    compute: float
    stall_error: float
    compute_error: float
    error: float
    stray: float


class _Loss:
    """A device value that is there when a computation is done."""

    def __init__(self, computation: Future[None]):
        self.block_until_ready = computation.result

    def __array__(self, *_args: Any, **_options: Any) -> np.ndarray:
        return np.zeros(())


def run_case(kind: str, ratio: float, duration: float, steps: int) -> Outcome:
    """Puts one of KINDS through the loop's own clock and watcher, `steps` times after a first."""
    behaviour, delay = KINDS[kind], ratio * duration
    made, done = [], []

    def make_batch(_: int) -> tuple[()]:
        time.sleep(delay)
        made.append(time.perf_counter())
        return ()

    def compute() -> None:
        time.sleep(duration)
        done.append(time.perf_counter())

    with ThreadPoolExecutor(1) as workers, ThreadPoolExecutor(1) as device:

        def step(_images: int) -> dict[str, Any]:
            computation = device.submit(compute)
            if "dispatched" not in behaviour:
                computation.result()
            return {"loss": _Loss(computation), "correct": 0, "finite": True}

        batches = (workers.map if "ahead" in behaviour else map)(make_batch, range(steps + 1))
        with StepWatcher() as watcher:
            for number in range(steps + 1):
                position = {"step": number, "epoch": 0, "batch": number, "images": 1}
                watcher.take_step(position, batches, step, sync="sync" in behaviour)
            records = watcher.wait()[1:]
    overlaps = "ahead" in behaviour or behaviour == {"dispatched"}
    intended = max(0.0, delay - duration * overlaps)
    stalls = [max(0.0, ready - free) for ready, free in zip(made[1:], done[:-1], strict=True)]
    true = sum(stalls) / steps, (done[-1] - done[0] - sum(stalls)) / steps
    measured = [sum(r[part] for r in records) / steps for part in ("input_stall", "compute")]
    scales = max(true[0], _LEAST_STALL * true[1]), true[1]
    errors = [abs(m - t) / s for m, t, s in zip(measured, true, scales, strict=True)]
    stray = abs(measured[0] - intended) / duration
    return Outcome(kind, ratio, intended, *true, *measured, *errors, error=max(errors), stray=stray)
