"""The watcher's arithmetic on a clock and a device that the test controls."""

import threading
import time
from typing import Any

import numpy as np
import pytest

from jaxresnet.train.clock import Diverged, StepWatcher


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Loss:
    """A device value that is done at a given time, and moves the clock there."""

    def __init__(self, clock: Clock, done: float, value: float = 1.5):
        self._clock, self._done, self._value = clock, done, value

    def block_until_ready(self):
        self._clock.now = self._done

    def __array__(self, dtype=None, copy=None):
        return np.array(self._value, dtype)


class Failing:
    def block_until_ready(self):
        raise RuntimeError("device lost")


def pending(step: int, ready: float, loss, finite: bool = True) -> tuple[Any, ...]:
    position = {"step": step, "epoch": 0, "batch": step, "images": 4}
    return position, 0.25, ready, {"loss": loss, "correct": 3, "finite": finite}


def watch(step: tuple[Any, ...]) -> None:
    with StepWatcher() as watcher:
        watcher.submit(*step)
        watcher.wait()


def test_stall_and_compute_split_the_time_between_completions():
    clock = Clock()
    with StepWatcher(clock=clock) as watcher:
        # (batch ready, step done): late input, input in time, late again.
        for step, (ready, done) in enumerate([(0.5, 2.5), (1.0, 4.5), (7.0, 9.0)]):
            watcher.submit(*pending(step, ready, Loss(clock, done)))
        records = watcher.wait()
    assert [record["input_stall"] for record in records] == [0.5, 0.0, 2.5]
    assert [record["compute"] for record in records] == [2.0, 2.0, 2.0]
    assert [record["step"] for record in records] == [0, 1, 2]
    first = records[0]
    assert (first["loss"], first["correct"], first["images"]) == (1.5, 3, 4)
    assert (first["input_wait"], first["top1"]) == (0.25, 0.75)


def test_a_step_that_is_not_finite_is_named():
    with pytest.raises(Diverged, match=r"after step 6 \(epoch 1, batch 7; loss 1\.5\)"):
        watch(pending(6, 0.0, Loss(Clock(), 1.0), finite=False))


def test_records_are_handed_out_once():
    clock = Clock()
    with StepWatcher(clock=clock) as watcher:
        watcher.submit(*pending(0, 0.0, Loss(clock, 1.0)))
        assert len(watcher.wait()) == 1
        assert watcher.completed() == []


def test_what_comes_between_restart_and_before_is_in_no_step():
    clock = Clock()
    with StepWatcher(clock=clock) as watcher:
        watcher.submit(*pending(0, 0.0, Loss(clock, 1.0)))
        watcher.wait()
        clock.now = 100.0  # a checkpoint was saved
        watcher.restart()
        watcher.submit(*pending(1, 100.5, Loss(clock, 103.0)))
        (record,) = watcher.wait()
    assert (record["input_stall"], record["compute"]) == (0.5, 2.5)


def test_a_failure_on_the_device_reaches_the_loop():
    with pytest.raises(RuntimeError, match="device lost"):
        watch(pending(0, 0.0, Failing()))


def test_the_loop_runs_ahead_by_a_bounded_number_of_steps():
    gate, clock = threading.Event(), Clock()

    class Gated(Loss):
        def block_until_ready(self):
            gate.wait()
            super().block_until_ready()

    submitted = []

    def loop():
        with StepWatcher(max_in_flight=2, clock=clock) as watcher:
            for step in range(4):
                watcher.submit(*pending(step, 0.0, Gated(clock, 1.0)))
                submitted.append(step)

    thread = threading.Thread(target=loop)
    thread.start()
    while len(submitted) < 2:
        time.sleep(0.001)
    time.sleep(0.05)
    assert submitted == [0, 1]  # the third is handed over, and its submit waits
    gate.set()
    thread.join()
    assert submitted == [0, 1, 2, 3]
