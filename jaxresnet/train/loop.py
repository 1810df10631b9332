"""The training loop: epochs of steps, each followed by an evaluation.

It can be stopped at any moment and gone on with: the state comes from the last checkpoint, the
batches from (seed, epoch, batch), and the log is rewound to the same step.
"""

import time
from collections.abc import Callable
from typing import Any

from jaxresnet.errors import UserError
from jaxresnet.train.checkpoint import Checkpoints
from jaxresnet.train.evaluation import evaluate
from jaxresnet.train.interrupt import StopRequest
from jaxresnet.train.metrics import EvalResult, RunLog, summarise_epoch
from jaxresnet.train.progress import Progress
from jaxresnet.train.state import TrainState
from jaxresnet.train.step import StepMetrics
from jaxresnet.train.timing import Place, StepRecord, StepWatcher
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
            self._progress.say(f"{training.label}: already trained")
            self._log.rewrite_events(training.series)  # maybe wanted only now
            return
        step, records, finished = self._rewind()
        self._progress.skip(finished)
        self._state = training.initial_state
        if step:
            self._state = self._checkpoints.restore(step, like=training.initial_state)
            self._progress.say(f"{training.label}: goes on after step {step}")
        self._stop.raise_if_set()
        self._log.add_start(training.series, step, self._compile())
        for epoch in range(finished, training.epochs):
            earlier = [record for record in records if record.epoch == epoch]
            steps = earlier + self._train_epoch(epoch, earlier)
            self._save()
            result = self._evaluate(epoch)
            summary = summarise_epoch(epoch, steps, result)
            self._log.add_epoch(training.series, summary)
            self._log.sync()
            self._progress.end_epoch(summary)

    def _rewind(self) -> tuple[int, list[StepRecord], int]:
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
        self._progress.compiling(self._training.label)
        start = time.perf_counter()
        self._programs = self._compiler(self._training, self._state)
        return time.perf_counter() - start

    def _train_epoch(self, epoch: int, earlier: list[StepRecord]) -> list[StepRecord]:
        """Takes the epoch's remaining steps and returns their records.

        Where steps are dispatched, nothing in here waits for the device, but for the watcher's
        bound on unfinished ones. On a CPU the call runs the step.
        """
        training = self._training
        records: list[StepRecord] = []
        first_batch = len(earlier)
        self._progress.begin_epoch(training.label, epoch, sum(step.images for step in earlier))
        if first_batch == training.steps_per_epoch:
            return records
        step = epoch * training.steps_per_epoch + first_batch
        with StepWatcher() as watcher:
            batches = training.loader.epoch(epoch, first_batch)
            for batch in range(first_batch, training.steps_per_epoch):
                size = min(training.batch_size, training.train_size - batch * training.batch_size)
                place = Place(step, epoch, batch, size)
                watcher.take_step(place, batches, self._take_step, sync=training.sync_each_step)
                step += 1
                records += self._record(watcher.completed())
                due = step % training.checkpoint_every == 0
                if self._stop or due:
                    records += self._record(watcher.wait())
                    self._save()
                    self._stop.raise_if_set()
                    watcher.restart()
            records += self._record(watcher.wait())
        return records

    def _take_step(self, size: int, *arguments: Any) -> StepMetrics:
        self._state, metrics = self._programs.train[size](self._state, *arguments)
        return metrics

    def _record(self, records: list[StepRecord]) -> list[StepRecord]:
        for record in records:
            self._log.add_step(self._training.series, record)
        self._progress.steps(records)
        return records

    def _save(self) -> None:
        self._log.sync()  # first, so that the log never lacks a step that is in a checkpoint
        self._checkpoints.save(self._state)

    def _evaluate(self, epoch: int) -> EvalResult:
        training = self._training

        def on_batch(number: int, count: int, loss: float, top1: float) -> None:
            self._stop.raise_if_set()
            self._log.add_test_batch(training.series, epoch, number, loss=loss, top1=top1)
            self._progress.evaluated(count)

        params, batch_stats = self._state.params, self._state.batch_stats
        return evaluate(
            self._programs.evaluate,
            params,
            batch_stats,
            training.test,
            training.batch_size,
            on_batch,
        )
