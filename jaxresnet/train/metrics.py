"""What a run writes down: JSON lines for steps, epochs and test batches, and their sums."""

import contextlib
import csv
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from jaxresnet.train.events import EventFiles
from jaxresnet.train.timing import StepRecord

_STEP_SCALARS = ("loss", "top1", "input_wait", "input_stall", "compute")
_EPOCH_SCALARS = (
    "loss", "top1", "test_loss", "test_top1", "seconds", "input_wait", "input_stall", "compute",
)  # fmt: skip


class JsonLines:
    """A file of one JSON object per line, appended to as the run goes on."""

    def __init__(self, path: Path):
        self.path = path
        self._file = path.open("a", encoding="utf-8")

    def append(self, record: dict[str, Any]) -> None:
        self._file.write(json.dumps(record) + "\n")
        self._file.flush()

    def sync(self) -> None:
        """Forces what was appended to the disk."""
        os.fsync(self._file.fileno())

    def keep(self, wanted: Callable[[dict[str, Any]], bool]) -> list[dict[str, Any]]:
        """Drops the lines that are not wanted, and a last one cut short; returns the others."""
        kept = [record for record in read_json_lines(self.path) if wanted(record)]
        temporary = self.path.with_suffix(".tmp")
        with temporary.open("w", encoding="utf-8") as file:
            file.writelines(json.dumps(record) + "\n" for record in kept)
            file.flush()
            os.fsync(file.fileno())
        self._file.close()
        temporary.replace(self.path)
        self._file = self.path.open("a", encoding="utf-8")
        return kept

    def close(self) -> None:
        """Writes a CSV file of the same lines beside it, for spreadsheets."""
        self._file.close()
        records = read_json_lines(self.path)
        names = dict.fromkeys(name for record in records for name in record)
        temporary = self.path.with_suffix(".csv.tmp")
        with temporary.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, names)
            writer.writeheader()
            writer.writerows(records)
        temporary.replace(self.path.with_suffix(".csv"))


def read_json_lines(path: Path) -> list[dict[str, Any]]:
    """All whole lines of the file; none if there is no file."""
    if not path.exists():
        return []
    records = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            records.append(json.loads(line))
        except json.JSONDecodeError:
            break  # cut short by a kill or a power cut: what follows is not to be trusted
    return records


def append_json_line(path: Path, record: dict[str, Any]) -> None:
    """Adds one line after the last whole one of a file, and forces it to the disk."""
    with contextlib.closing(JsonLines(path)) as lines:
        lines.keep(lambda _: True)
        lines.append(record)
        lines.sync()


def write_json(path: Path, content: Any) -> None:
    """Writes a JSON file so that it is there whole or not at all."""
    temporary = path.with_suffix(".tmp")
    with temporary.open("w", encoding="utf-8") as file:
        file.write(json.dumps(content, indent=2) + "\n")
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


@dataclass(frozen=True)
class EvalResult:
    """loss: the mean over all images. top1: a fraction. seconds: what the evaluation took."""

    loss: float
    top1: float
    images: int
    seconds: float


@dataclass(frozen=True)
class EpochRecord:
    """One epoch as epochs.jsonl keeps it. Times in seconds, summed over the epoch's steps.

    loss: the mean of the batches' losses, as the published runs computed it.
    top1: right answers / images, over the epoch's training batches.
    best_top1: the highest that this ratio stood at after any batch of the epoch (lab-c's
      "best training accuracy").
    """

    epoch: int
    steps: int
    images: int
    seconds: float
    input_wait: float
    input_stall: float
    compute: float
    loss: float
    top1: float
    best_top1: float
    test_loss: float
    test_top1: float
    test_images: int
    test_seconds: float


def summarise_epoch(epoch: int, steps: Sequence[StepRecord], test: EvalResult) -> EpochRecord:
    """Sums the steps of one epoch, in order, and adds what the evaluation after it found."""
    images = correct = 0
    best_top1 = 0.0
    for step in steps:
        images += step.images
        correct += step.correct
        best_top1 = max(best_top1, correct / images)
    input_stall = sum(step.input_stall for step in steps)
    compute = sum(step.compute for step in steps)
    return EpochRecord(
        epoch=epoch,
        steps=len(steps),
        images=images,
        seconds=input_stall + compute,
        input_wait=sum(step.input_wait for step in steps),
        input_stall=input_stall,
        compute=compute,
        loss=sum(step.loss for step in steps) / len(steps),
        top1=correct / images,
        best_top1=best_top1,
        test_loss=test.loss,
        test_top1=test.top1,
        test_images=test.images,
        test_seconds=test.seconds,
    )


class RunLog:
    """The JSON-lines files of a run directory; each line names the series it belongs to.

    A series is one training among those that share the directory: an optimizer, as a rule.
    """

    def __init__(
        self, directory: Path, images: str, machine: str, events: EventFiles | None = None
    ):
        """images, machine: what is trained on, and where, in words. events: written to as well."""
        self._events = events
        self._images = images
        self._machine = machine
        self.steps = JsonLines(directory / "steps.jsonl")
        self.epochs = JsonLines(directory / "epochs.jsonl")
        self.test_batches = JsonLines(directory / "test_batches.jsonl")
        self._starts = JsonLines(directory / "starts.jsonl")

    def finished_epochs(self, series: str) -> int:
        """How many epochs of a series were trained and evaluated."""
        return sum(line["series"] == series for line in read_json_lines(self.epochs.path))

    def rewind(self, series: str, step: int, epoch: int) -> tuple[list[StepRecord], int]:
        """Forgets what a series wrote after its checkpoint.

        step, epoch: the first of each that is not part of the checkpoint.
        Returns the series' remaining step records and the number of its finished epochs.
        """

        def before(key: str, bound: int) -> Callable[[dict[str, Any]], bool]:
            return lambda line: line["series"] != series or line[key] < bound

        lines = self.steps.keep(before("step", step))
        epochs = self.epochs.keep(before("epoch", epoch))
        finished = sum(line["series"] == series for line in epochs)
        self.test_batches.keep(before("epoch", finished))
        self.rewrite_events(series)
        return [_step_record(line) for line in lines if line["series"] == series], finished

    def rewrite_events(self, series: str) -> None:
        """Makes a series' event files, which cannot be cut short, anew from its lines."""
        if self._events is None:
            return
        self._events.clear(series)
        for step in read_json_lines(self.steps.path):
            if step["series"] == series:
                self._add_events(series, step["step"], "step", step, _STEP_SCALARS)
        for epoch in read_json_lines(self.epochs.path):
            if epoch["series"] == series:
                self._add_events(series, epoch["epoch"] + 1, "epoch", epoch, _EPOCH_SCALARS)

    def add_start(self, series: str, step: int, compile_seconds: float) -> None:
        """The run was started, or went on after `step` steps."""
        record = {"step": step, "compile": compile_seconds, "machine": self._machine}
        self._starts.append(self._line(series, record))

    def add_step(self, series: str, record: StepRecord) -> None:
        values = {**asdict(record), "top1": record.correct / record.images}
        self.steps.append(self._line(series, values))
        self._add_events(series, record.step, "step", values, _STEP_SCALARS)

    def add_epoch(self, series: str, record: EpochRecord) -> None:
        self.epochs.append(self._line(series, asdict(record)))
        self._add_events(series, record.epoch + 1, "epoch", asdict(record), _EPOCH_SCALARS)

    def add_test_batch(self, series: str, epoch: int, batch: int, loss: float, top1: float) -> None:
        record = {"epoch": epoch, "batch": batch, "loss": loss, "top1": top1}
        self.test_batches.append(self._line(series, record))

    def _add_events(
        self, series: str, at: int, kind: str, values: dict[str, float], names: Sequence[str]
    ) -> None:
        if self._events is not None:
            self._events.add(series, at, {f"{kind}/{name}": values[name] for name in names})

    def _line(self, series: str, record: dict[str, Any]) -> dict[str, Any]:
        return {"series": series, "data": self._images, **record}

    def sync(self) -> None:
        """Forces all that was written to the disk."""
        for log in (self.steps, self.epochs, self.test_batches, self._starts):
            log.sync()

    def close(self) -> None:
        for log in (self.steps, self.epochs, self.test_batches, self._starts):
            log.close()
        if self._events is not None:
            self._events.close()


def _step_record(line: dict[str, Any]) -> StepRecord:
    return StepRecord(**{field.name: line[field.name] for field in fields(StepRecord)})
