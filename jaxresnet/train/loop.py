"""The training loop: epochs of steps, each followed by an evaluation.

It can be stopped at any moment and continued: the state comes from the last checkpoint, the batches
from (seed, epoch, batch), and the log is rewound to the same step.
"""

import time
from collections.abc import Callable
from typing import Any

from jaxresnet.errors import UserError
from jaxresnet.train.checkpoint import Checkpoints
from jaxresnet.train.clock import StepWatcher
from jaxresnet.train.evaluation import evaluate
from jaxresnet.train.figures import Record, epoch_record
from jaxresnet.train.interrupt import StopRequest
from jaxresnet.train.log import RunLog
from jaxresnet.train.progress import Progress
from jaxresnet.train.state import TrainState
from jaxresnet.train.step import Metrics
from jaxresnet.train.training import Programs, Training, compile_programs


class Trainer:
    """Carries one Training to its end, from wherever an earlier start left it.

    compiler: compile_programs, or what remembers an equal training's programs.
    """

    def __init__(
        self,
        training: Training,
        log: RunLog,
        checkpoints: Checkpoints,
        progress: Progress,
        stop: StopRequest,
        compiler: Callable[[Training, TrainState], Programs] = compile_programs,
    ):
        self._training = training
        self._log = log
        self._checkpoints = checkpoints
        self._progress = progress
        self._stop = stop
        self._compiler = compiler

    def run(self) -> None:
        """Trains and evaluates what is left.

        Raises:
          Stopped: a signal came; the state is saved.
          Diverged: the loss or a parameter was not finite.
          UserError: checkpoints or logs of the earlier start are not usable.
        """
        training = self._training
        if self._log.finished_epochs(training.series) == training.epochs:
            self._progress.skip(training.epochs)
            self._progress.say(f"{training.title}: already trained")
            self._log.rewrite_events(training.series)  # maybe wanted only now
            return
        step, records, finished = self._rewind()
        self._progress.skip(finished)
        self._state = training.initial_state
        if step:
            self._state = self._checkpoints.restore(step, like=training.initial_state)
            self._progress.say(f"{training.title}: goes on after step {step}")
        self._stop.raise_if_set()
        self._log.add_start(training.series, step, self._compile())
        for epoch in range(finished, training.epochs):
            earlier = [record for record in records if record["epoch"] == epoch]
            steps = earlier + self._train_epoch(epoch, earlier)
            self._save()
            record = epoch_record(epoch, steps, self._evaluate(epoch))
            self._log.add_epoch(training.series, record)
            self._log.sync()
            self._progress.end_epoch(record)

    def _rewind(self) -> tuple[int, list[Record], int]:
        """Takes the log back to the last checkpoint: (its step, the records, epochs finished)."""
        training, per_epoch = self._training, self._training.steps_per_epoch
        latest = self._checkpoints.latest_step()
        if latest is None and self._log.finished_epochs(training.series):
            raise UserError(
                f"the log has epochs of {training.series}, but their checkpoints are gone; "
                "bring them back, or start anew with --fresh"
            )
        step = latest or 0
        records, finished = self._log.rewind(training.series, step, step // per_epoch)
        # Killed between an epoch's checkpoint and its evaluation, the log is one epoch behind.
        evaluated = finished == step // per_epoch or (
            step % per_epoch == 0 and finished == step // per_epoch - 1
        )
        if len(records) != step or not evaluated:
            raise UserError(
                f"{self._log.steps.path.parent} has logs of {len(records)} steps and {finished} "
                f"epochs of {training.series}, but the checkpoint was taken after {step} steps; "
                "start anew with --fresh"
            )
        return step, records, finished

    def _compile(self) -> float:
        """The seconds that it took: they are in no epoch's time."""
        self._progress.compiling(self._training.title)
        start = time.perf_counter()
        self._programs = self._compiler(self._training, self._state)
        return time.perf_counter() - start

    def _train_epoch(self, epoch: int, earlier: list[Record]) -> list[Record]:
        """Takes the epoch's remaining steps and returns their records.

        Where steps are dispatched, nothing in here waits for the device, but for the watcher's
        bound on unfinished ones. On a CPU the call runs the step.
        """
        training, size = self._training, len(self._training.dataset.train)
        records: list[Record] = []
        first_batch = len(earlier)
        images = sum(step["images"] for step in earlier)
        self._progress.begin_epoch(training.title, epoch, images)
        if first_batch == training.steps_per_epoch:
            return records
        step = epoch * training.steps_per_epoch + first_batch
        with StepWatcher() as watcher:
            batches = training.loader.epoch(epoch, first_batch)
            for batch in range(first_batch, training.steps_per_epoch):
                count = min(training.batch_size, size - batch * training.batch_size)
                position = {"step": step, "epoch": epoch, "batch": batch, "images": count}
                watcher.take_step(position, batches, self._take_step, sync=training.sync_each_step)
                step += 1
                records += self._record(watcher.completed())
                if self._stop or self._checkpoints.is_due(step):
                    records += self._record(watcher.wait())
                    self._save()
                    self._stop.raise_if_set()
                    watcher.restart()
            records += self._record(watcher.wait())
        return records

    def _take_step(self, size: int, *batch: Any) -> Metrics:
        self._state, metrics = self._programs.train[size](self._state, *batch)
        return metrics

    def _record(self, records: list[Record]) -> list[Record]:
        for record in records:
            self._log.add_step(self._training.series, record)
        self._progress.steps(records)
        return records

    def _save(self) -> None:
        self._log.sync()  # first, so that the log never lacks a step that is in a checkpoint
        self._checkpoints.save(self._state)

    def _evaluate(self, epoch: int) -> Record:
        training = self._training

        def on_batch(number: int, count: int, figures: Record) -> None:
            self._stop.raise_if_set()
            self._log.add_test_batch(training.series, epoch, number, figures)
            self._progress.evaluated(count)

        return evaluate(
            self._programs.evaluate,
            self._state.params,
            self._state.batch_stats,
            training.dataset.test,
            training.batch_size,
            on_batch,
        )
