"""A loader with a known delay and a device with a known duration, which keep their own times."""

import queue
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import cast

import jax

from jaxresnet.train.step import StepMetrics
from jaxresnet.train.timing import Place, StepRecord, StepWatcher

_BUFFERED = 2  # batches that a loader with workers holds ready


@dataclass(frozen=True)
class Case:
    """dispatched: the call returns at once, as on a GPU; else it runs the step, as on a CPU here.
    ahead: batches are made while the device computes, as by workers; else when they are asked for.
    delay, duration: of a batch and of a step, in seconds. sync: the loop waits for each step.
    """

    dispatched: bool
    ahead: bool
    delay: float
    duration: float
    sync: bool = False

    @property
    def expected_stall(self) -> float:
        """Of each step but the first: what is not hidden behind the step before."""
        overlaps = self.ahead or (self.dispatched and not self.sync)
        hidden = self.duration if overlaps else 0.0
        return max(0.0, self.delay - hidden)


@dataclass(frozen=True)
class Split:
    """Seconds in all the steps of a case but the first."""

    stall: float
    compute: float


class _Loss:
    """What the loop and the watcher use of a device value."""

    def __init__(self) -> None:
        self.done = threading.Event()

    def block_until_ready(self) -> None:
        self.done.wait()

    def __float__(self) -> float:
        return 0.0


class _Device:
    """Runs steps one after the other, in a thread of its own or in the call."""

    def __init__(self, case: Case):
        self.done: list[float] = []
        self._case = case
        self._steps: queue.SimpleQueue[_Loss | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def step(self, _images: int) -> StepMetrics:
        loss = _Loss()
        if self._case.dispatched:
            self._steps.put(loss)
        else:
            self._run(loss)
        value = cast(jax.Array, loss)
        return StepMetrics(value, cast(jax.Array, 0), cast(jax.Array, True))

    def stop(self) -> None:
        self._steps.put(None)
        self._thread.join()

    def _work(self) -> None:
        while (loss := self._steps.get()) is not None:
            self._run(loss)

    def _run(self, loss: _Loss) -> None:
        time.sleep(self._case.duration)
        self.done.append(time.perf_counter())
        loss.done.set()


class _Loader:
    """Hands out empty batches, each made in `delay`; keeps when each was made."""

    def __init__(self, case: Case, steps: int):
        self.made: list[float] = []
        self._case, self._steps = case, steps

    def batches(self) -> Iterator[tuple[()]]:
        if not self._case.ahead:
            yield from self._make()
            return
        buffer: queue.Queue[tuple[()]] = queue.Queue(_BUFFERED)

        def work() -> None:
            for batch in self._make():
                buffer.put(batch)

        threading.Thread(target=work, daemon=True).start()
        for _ in range(self._steps):
            yield buffer.get()

    def _make(self) -> Iterator[tuple[()]]:
        for _ in range(self._steps):
            time.sleep(self._case.delay)
            self.made.append(time.perf_counter())
            yield ()


def run_case(case: Case, steps: int) -> tuple[Split, Split]:
    """The loop's own clock and watcher on the case: (what they measured, what truly passed).

    The truth is from the times at which the loader and the device themselves were done, so that
    a sleep that lasts too long on a busy machine is no error.
    """
    loader, device = _Loader(case, steps), _Device(case)
    batches = loader.batches()
    with StepWatcher() as watcher:
        for number in range(steps):
            place = Place(number, 0, number, 1)
            watcher.take_step(place, batches, device.step, sync=case.sync)
        records = watcher.wait()
    device.stop()
    return _measured(records[1:]), _true(loader.made, device.done)


def _measured(records: list[StepRecord]) -> Split:
    return Split(
        sum(record.input_stall for record in records), sum(record.compute for record in records)
    )


def _true(made: list[float], done: list[float]) -> Split:
    stalls = [
        max(0.0, batch - previous) for batch, previous in zip(made[1:], done[:-1], strict=True)
    ]
    return Split(sum(stalls), done[-1] - done[0] - sum(stalls))
