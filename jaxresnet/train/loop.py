"""The training loop: epochs of steps, each followed by an evaluation.

It can be stopped at any moment and continued: the state comes from the last checkpoint, the batches
from (seed, epoch, batch), and the log is rewound to the same step.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from jaxresnet.errors import UserError
from jaxresnet.train.checkpoint import Checkpoints
from jaxresnet.train.clock import StepWatcher
from jaxresnet.train.figures import Record, epoch_record
from jaxresnet.train.interrupt import StopRequest
from jaxresnet.train.log import RunLog
from jaxresnet.train.progress import Progress
from jaxresnet.train.state import TrainState
from jaxresnet.train.step import Metrics, evaluate
from jaxresnet.train.training import Programs, Training, compile_programs


@dataclass
class Trainer:
    """Carries one Training to its end, from wherever an earlier start left it.

    compiler: compile_programs, or what remembers an equal training's programs.
    """

    training: Training
    log: RunLog
    checkpoints: Checkpoints
    progress: Progress
    stop: StopRequest
    compiler: Callable[[Training, TrainState], Programs] = compile_programs

    def run(self) -> None:
        """Trains and evaluates what is left.

        Raises:
          Stopped: a signal came; the state is saved.
          Diverged: the loss or a parameter was not finite.
          UserError: checkpoints or logs of the earlier start are not usable.
        """
        training, log, progress = self.training, self.log, self.progress
        if len(log.lines("epochs", training.series)) == training.epochs:
            progress.skip(training.epochs)
            progress.say(f"{training.title}: already trained")
            log.rewrite_events(training.series)  # maybe wanted only now
            return
        step, records, finished = self._rewind()
        progress.skip(finished)
        self._state = training.initial_state
        if step:
            self._state = self.checkpoints.restore(step, like=training.initial_state)
            progress.say(f"{training.title}: continues after step {step}")
        self.stop.raise_if_set()
        progress.compiling(training.title)
        start = time.perf_counter()
        self._programs = self.compiler(training, self._state)
        memory = self._programs.step_memory
        if memory is not None:
            progress.say(f"{training.title}: a step needs {memory:,.0f} MiB")
        compiled = {"step": step, "compile": time.perf_counter() - start, "step_memory": memory}
        log.add("starts", training.series, {**compiled, **log.start})
        for epoch in range(finished, training.epochs):
            earlier = [record for record in records if record["epoch"] == epoch]
            steps = earlier + self._train_epoch(epoch, earlier)
            self._save()
            record = epoch_record(epoch, steps, self._evaluate(epoch))
            log.add("epochs", training.series, record)
            log.sync()
            progress.end_epoch(record)

    def _rewind(self) -> tuple[int, list[Record], int]:
        """Takes the log back to the last checkpoint: (its step, the records, epochs finished)."""
        series, log = self.training.series, self.log
        latest = self.checkpoints.latest_step()
        if latest is None and log.lines("epochs", series):
            raise UserError(
                f"the log has epochs of {series}, but their checkpoints are gone; "
                "bring them back, or start anew with --fresh"
            )
        step = latest or 0
        epochs, batch = divmod(step, self.training.steps_per_epoch)
        log.rewind(series, step, epochs)
        records, finished = log.lines("steps", series), len(log.lines("epochs", series))
        # Killed between an epoch's checkpoint and its evaluation, the log is one epoch behind.
        evaluated = finished == epochs or (batch == 0 and finished == epochs - 1)
        if len(records) != step or not evaluated:
            raise UserError(
                f"{log.directory} has logs of {len(records)} steps and {finished} epochs of "
                f"{series}, but the checkpoint was taken after {step} steps; start anew with "
                "--fresh"
            )
        return step, records, finished

    def _train_epoch(self, epoch: int, earlier: list[Record]) -> list[Record]:
        """Takes the epoch's remaining steps and returns their records.

        Where steps are dispatched, nothing in here waits for the device, but for the watcher's
        bound on unfinished ones. On a CPU the call runs the step.
        """
        training, records = self.training, []
        first_batch, per_epoch, size = len(earlier), training.steps_per_epoch, training.batch_size
        self.progress.begin_epoch(training.title, epoch, sum(step["images"] for step in earlier))
        if first_batch == per_epoch:
            return records

        def take_step(images: int, *batch: Any) -> Metrics:
            self._state, metrics = self._programs.train[images](self._state, *batch)
            return metrics

        def add(completed: list[Record]) -> None:
            for record in completed:
                self.log.add("steps", training.series, record)
            self.progress.steps(completed)
            records.extend(completed)

        with StepWatcher() as watcher:
            batches = training.loader.epoch(epoch, first_batch)
            for batch in range(first_batch, per_epoch):
                images = min(size, len(training.dataset.train) - batch * size)
                step = epoch * per_epoch + batch
                position = {"step": step, "epoch": epoch, "batch": batch, "images": images}
                watcher.take_step(
                    position, batches, take_step, sync=training.feeding.sync_each_step
                )
                add(watcher.completed())
                if self.stop or self.checkpoints.is_due(step + 1):
                    add(watcher.wait())
                    self._save()
                    self.stop.raise_if_set()
                    watcher.restart()
            add(watcher.wait())
        return records

    def _save(self) -> None:
        self.log.sync()  # first, so that the log never lacks a step that is in a checkpoint
        self.checkpoints.save(self._state)

    def _evaluate(self, epoch: int) -> Record:
        training = self.training
        batches = training.dataset.test, training.batch_size, training.feeding

        def on_batch(number: int, images: int, figures: Record) -> None:
            self.stop.raise_if_set()
            line = {"epoch": epoch, "batch": number, **figures}
            self.log.add("test_batches", training.series, line)
            self.progress.evaluated(images)

        return evaluate(self._programs.evaluate, *self._state.evaluated, *batches, on_batch)
