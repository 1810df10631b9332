"""Where the time of a step goes, under asynchronous dispatch.

The loop hands work to the device and runs ahead, so the host's own clock cannot tell waiting for
input from waiting for the device. A watcher thread therefore waits for each step's metrics and
stamps when they were there; the loop stamps when each batch was on the device. In seconds:

    input_stall = max(0, batch ready - previous step done)    the device was idle for lack of input
    compute     = (done - previous step done) - input_stall   the device was at work
    input_wait  = what the loop was blocked in getting the batch and copying it to the device

input_wait is what PyTorch users call data loading time: no part of the sum, since most of it may
pass while the device computes. On a CPU the call itself runs the step (see platform): nothing in
the loop overlaps with it but the loader's workers, input_wait is a part of input_stall, and so is
what the loop does besides.
"""

import queue
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import numpy as np

from jaxresnet.train.figures import Record, step_record


class Diverged(Exception):
    """The loss or a parameter was no longer finite. Nothing is saved from that step on."""

    def __init__(self, position: Record, loss: float):
        super().__init__(
            f"the loss or a parameter was not finite after step {position['step']} (epoch "
            f"{position['epoch'] + 1}, batch {position['batch'] + 1}; loss {loss:g})"
        )


class StepWatcher:
    """Waits for steps in a thread of its own; use it as a context manager around an epoch.

    The epoch's time begins when the watcher is entered. The loop may run `max_in_flight` steps
    ahead of the device: enough to keep it busy, and few enough to stop soon when asked.
    """

    def __init__(self, max_in_flight: int = 2, clock: Callable[[], float] = time.perf_counter):
        self._clock = clock
        self._in_flight = threading.Semaphore(max_in_flight)
        self._pending: queue.SimpleQueue[tuple[Any, ...] | threading.Event | None]
        self._pending = queue.SimpleQueue()
        self._done: queue.SimpleQueue[Record] = queue.SimpleQueue()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._watch, name="step-watcher", daemon=True)

    def __enter__(self) -> "StepWatcher":
        self.restart()
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._pending.put(None)
        self._thread.join()
        if kind is None:
            self._raise_error()

    def restart(self) -> None:
        """Sets the clock to now, so that what came between steps is in none of their times."""
        self._previous_done = self._clock()

    def take_step(
        self,
        position: Record,
        batches: Iterator[tuple[Any, ...]],
        step: Callable[..., Mapping[str, Any]],
        *,
        sync: bool = False,
    ) -> None:
        """Puts the next batch on the device, takes a step with it, and submits.

        position: step, epoch, batch, images. step: (images, *batch) -> metrics. sync: wait here
        until the step is done.
        """
        asked = self._clock()
        # On the device before the stamp: else the copy would count as computation.
        batch = jax.block_until_ready(jax.device_put(tuple(next(batches))))
        ready = self._clock()
        metrics = step(position["images"], *batch)
        if sync:
            jax.block_until_ready(metrics)
        self.submit(position, ready - asked, ready, metrics)

    def submit(
        self, position: Record, input_wait: float, ready: float, metrics: Mapping[str, Any]
    ) -> None:
        """Hands over a dispatched step; blocks while too many are unfinished.

        ready: when its batch was on the device. metrics: scalars on the device; `finite` is False
        for a training that diverged.
        """
        self._pending.put((position, input_wait, ready, metrics))
        self._in_flight.acquire()
        self._raise_error()

    def completed(self) -> list[Record]:
        """The records of steps that finished since the last call, in order."""
        return [self._done.get() for _ in range(self._done.qsize())]

    def wait(self) -> list[Record]:
        """Waits for every step handed over; returns the records not yet returned, in order."""
        self._pending.put(idle := threading.Event())
        idle.wait()
        self._raise_error()
        return self.completed()

    def _raise_error(self) -> None:
        if self._error is not None:
            raise self._error

    def _watch(self) -> None:
        while (pending := self._pending.get()) is not None:
            if isinstance(pending, threading.Event):
                pending.set()
                continue
            if self._error is None:
                try:
                    self._done.put(self._wait_for(*pending))
                except BaseException as error:  # raised again in the loop's thread
                    self._error = error
            self._in_flight.release()

    def _wait_for(
        self, position: Record, input_wait: float, ready: float, metrics: Mapping[str, Any]
    ) -> Record:
        jax.block_until_ready(metrics)
        done = self._clock()
        stall = max(0.0, min(ready, done) - self._previous_done)
        compute = done - self._previous_done - stall
        self._previous_done = done
        values = {name: np.asarray(m).item() for name, m in jax.device_get(metrics).items()}
        if not values.pop("finite"):
            raise Diverged(position, values["loss"])
        times = {"input_wait": input_wait, "input_stall": stall, "compute": compute}
        return step_record(position, {**values, **times})
