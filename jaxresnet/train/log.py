"""What a run writes down: JSON lines for steps, epochs, test batches and starts."""

import contextlib
import csv
import json
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxresnet.errors import UserError
from jaxresnet.train.figures import FIGURES, Record


class JsonLines:
    """A file of one JSON object per line, appended to as the run goes on."""

    def __init__(self, path: Path):
        self.path = path
        self._file = path.open("a", encoding="utf-8")

    def append(self, record: Record) -> None:
        self._file.write(json.dumps(record) + "\n")
        self._file.flush()

    def sync(self) -> None:
        """Forces what was appended to the disk."""
        os.fsync(self._file.fileno())

    def keep(self, wanted: Callable[[Record], bool]) -> list[Record]:
        """Drops the lines that are not wanted, and a last one cut short; returns the others.

        Raises:
          UserError: another line is damaged; the file is left as it is.
        """
        kept = [record for record in read_json_lines(self.path) if wanted(record)]
        _write_whole(self.path, "".join(json.dumps(record) + "\n" for record in kept))
        self._file.close()
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


def read_json_lines(path: Path) -> list[Record]:
    """All lines of the file; none if there is no file.

    A last line without its line break was cut short by a kill or a power cut, and is left out.

    Raises:
      UserError: another line is no JSON object.
    """
    if not path.exists():
        return []
    *lines, _cut_short = path.read_text(encoding="utf-8", errors="replace").split("\n")
    records = []
    for number, line in enumerate(lines, 1):
        try:
            records.append({**json.loads(line)})
        except (ValueError, TypeError, RecursionError) as error:
            raise UserError(
                f"{path}, line {number} is damaged: bring the file back from a copy, or start anew "
                "with --fresh; it was left as it is"
            ) from error
    return records


def append_json_line(path: Path, record: Record) -> None:
    """Adds one line after the last whole one of a file, and forces it to the disk."""
    with contextlib.closing(JsonLines(path)) as lines:
        lines.keep(lambda _: True)
        lines.append(record)
        lines.sync()


def write_json(path: Path, content: Any) -> None:
    """Writes a JSON file so that it is there whole or not at all."""
    _write_whole(path, json.dumps(content, indent=2) + "\n")


def _write_whole(path: Path, text: str) -> None:
    temporary = path.with_suffix(".tmp")
    with temporary.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


class EventFiles:
    """Event files for TensorBoard, whose package is an optional extra; a directory per series.

    Raises:
      UserError: tensorboard is not installed.
    """

    def __init__(self, directory: Path):
        try:
            from tensorboard.summary import Writer
        except ImportError as error:
            raise UserError(
                "--tensorboard needs the package tensorboard: pip install 'jaxresnet[tensorboard]'"
            ) from error
        self._create = Writer
        self._directory = directory
        self._writers: dict[str, Writer] = {}

    def rewrite(self, series: str, steps: Sequence[Record], epochs: Sequence[Record]) -> None:
        """Makes a series' files anew, since lines cannot be taken out of them."""
        if series in self._writers:
            self._writers.pop(series).close()
        shutil.rmtree(self._directory / series, ignore_errors=True)
        for step in steps:
            self.add_step(series, step)
        for epoch in epochs:
            self.add_epoch(series, epoch)

    def add_step(self, series: str, record: Record) -> None:
        self._add(series, "step", record["step"], record)

    def add_epoch(self, series: str, record: Record) -> None:
        self._add(series, "epoch", record["epoch"] + 1, record)

    def _add(self, series: str, kind: str, at: int, record: Record) -> None:
        if series not in self._writers:
            self._writers[series] = self._create(str(self._directory / series))
        for figure in FIGURES:
            if figure.header and figure.name in record:
                self._writers[series].add_scalar(f"{kind}/{figure.name}", record[figure.name], at)

    def close(self) -> None:
        for writer in self._writers.values():
            writer.close()


class RunLog:
    """The JSON-lines files of a run directory; each line names the series it belongs to.

    A series is one training among those that share the directory: an optimizer, as a rule.
    """

    def __init__(
        self,
        directory: Path,
        images: str,
        start: Mapping[str, Any],
        events: EventFiles | None = None,
    ):
        """
        Args:
          images: what is trained on, in words; it stands in every line.
          start: by what this start of the run is known: machine, versions, revision.
          events: written to as well.
        """
        self._events = events
        self._images = images
        self._start = start
        self.steps = JsonLines(directory / "steps.jsonl")
        self.epochs = JsonLines(directory / "epochs.jsonl")
        self.test_batches = JsonLines(directory / "test_batches.jsonl")
        self._starts = JsonLines(directory / "starts.jsonl")

    def finished_epochs(self, series: str) -> int:
        """How many epochs of a series were trained and evaluated."""
        return len(lines_of(series, self.epochs.path))

    def rewind(self, series: str, step: int, epoch: int) -> tuple[list[Record], int]:
        """Forgets what a series wrote after its checkpoint.

        Args:
          step, epoch: the first of each that is not part of the checkpoint.

        Returns:
          The series' remaining step records and the number of its finished epochs.

        Raises:
          UserError: a file is damaged; see read_json_lines.
        """

        def before(key: str, bound: int) -> Callable[[Record], bool]:
            return lambda line: line["series"] != series or line[key] < bound

        self.steps.keep(before("step", step))
        self.epochs.keep(before("epoch", epoch))
        finished = self.finished_epochs(series)
        self.test_batches.keep(before("epoch", finished))
        self._starts.keep(lambda _: True)
        self.rewrite_events(series)
        return lines_of(series, self.steps.path), finished

    def rewrite_events(self, series: str) -> None:
        """Makes a series' event files, if they are wanted, from its lines."""
        if self._events is not None:
            steps, epochs = (lines_of(series, log.path) for log in (self.steps, self.epochs))
            self._events.rewrite(series, steps, epochs)

    def add_start(self, series: str, step: int, compile_seconds: float) -> None:
        """The run was started, or went on after `step` steps."""
        record = {"step": step, "compile": compile_seconds, **self._start}
        self._starts.append(self._line(series, record))

    def add_step(self, series: str, record: Record) -> None:
        self.steps.append(self._line(series, record))
        if self._events is not None:
            self._events.add_step(series, record)

    def add_epoch(self, series: str, record: Record) -> None:
        self.epochs.append(self._line(series, record))
        if self._events is not None:
            self._events.add_epoch(series, record)

    def add_test_batch(self, series: str, epoch: int, batch: int, figures: Record) -> None:
        self.test_batches.append(self._line(series, {"epoch": epoch, "batch": batch, **figures}))

    def _line(self, series: str, record: Record) -> Record:
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


def lines_of(series: str, path: Path) -> list[Record]:
    """A series' lines of a file that a RunLog wrote."""
    return [line for line in read_json_lines(path) if line["series"] == series]
