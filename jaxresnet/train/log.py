"""What a run writes down: JSON lines for steps, epochs, test batches and starts."""

import contextlib
import csv
import io
import json
import os
import shutil
from collections.abc import Callable
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

    def keep(self, wanted: Callable[[Record], bool]) -> None:
        """Drops the lines that are not wanted, and a last one cut short; see read_json_lines."""
        kept = [
            json.dumps(record) + "\n" for record in read_json_lines(self.path) if wanted(record)
        ]
        _write_whole(self.path, "".join(kept))
        self._file.close()
        self._file = self.path.open("a", encoding="utf-8")

    def close(self) -> None:
        """Writes a CSV file of the same lines beside it, for spreadsheets."""
        self._file.close()
        records, table = read_json_lines(self.path), io.StringIO()
        writer = csv.DictWriter(table, dict.fromkeys(name for record in records for name in record))
        writer.writeheader()
        writer.writerows(records)
        _write_whole(self.path.with_suffix(".csv"), table.getvalue())


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


def lines_of(series: str, path: Path) -> list[Record]:
    """A series' lines of a file that a RunLog wrote."""
    return [line for line in read_json_lines(path) if line["series"] == series]


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
    with temporary.open("w", encoding="utf-8", newline="") as file:
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
        self._create, self._directory = Writer, directory
        self._writers: dict[str, Writer] = {}

    def add(self, file: str, series: str, record: Record) -> None:
        """Adds a line of steps or epochs; an epoch's number is how many were trained."""
        if file not in ("steps", "epochs"):
            return
        kind, at = ("step", record["step"]) if file == "steps" else ("epoch", record["epoch"] + 1)
        if series not in self._writers:
            self._writers[series] = self._create(str(self._directory / series))
        for figure in FIGURES:
            if figure.header and figure.name in record:
                self._writers[series].add_scalar(f"{kind}/{figure.name}", record[figure.name], at)

    def remove(self, series: str) -> None:
        """Deletes a series' files: single lines cannot be taken out of them."""
        if series in self._writers:
            self._writers.pop(series).close()
        shutil.rmtree(self._directory / series, ignore_errors=True)

    def close(self) -> None:
        for writer in self._writers.values():
            writer.close()


class RunLog:
    """The JSON-lines files of a run directory; each line names the series it belongs to.

    A series is one training among those that share the directory: an optimizer, as a rule.

    Args:
      images: what is trained on; it stands in every line.
      start: by what this start of the run is known: machine, versions, revision.
      events: written to as well.
    """

    def __init__(
        self, directory: Path, images: str, start: Record, events: EventFiles | None = None
    ):
        self.directory, self.start, self._images, self._events = directory, start, images, events
        files = ("steps", "epochs", "test_batches", "starts")
        self._files = {name: JsonLines(directory / f"{name}.jsonl") for name in files}

    def lines(self, file: str, series: str) -> list[Record]:
        """A series' lines of steps, epochs, test_batches or starts."""
        return lines_of(series, self._files[file].path)

    def add(self, file: str, series: str, record: Record) -> None:
        """Writes a line to one of the same files, and to the event files."""
        self._files[file].append({"series": series, "data": self._images, **record})
        if self._events is not None:
            self._events.add(file, series, record)

    def rewind(self, series: str, step: int, epoch: int) -> None:
        """Forgets a series' lines from `step` and `epoch` on: they are not in its checkpoint."""

        def before(key: str, bound: int) -> Callable[[Record], bool]:
            return lambda line: line["series"] != series or line[key] < bound

        self._files["steps"].keep(before("step", step))
        self._files["epochs"].keep(before("epoch", epoch))
        self._files["test_batches"].keep(before("epoch", len(self.lines("epochs", series))))
        self._files["starts"].keep(lambda _: True)
        self.rewrite_events(series)

    def rewrite_events(self, series: str) -> None:
        """Makes a series' event files, if they are wanted, from its lines."""
        if self._events is not None:
            self._events.remove(series)
            for file in ("steps", "epochs"):
                for line in self.lines(file, series):
                    self._events.add(file, series, line)

    def sync(self) -> None:
        """Forces all that was written to the disk."""
        for file in self._files.values():
            file.sync()

    def close(self) -> None:
        with contextlib.ExitStack() as stack:  # closes all of them, though some may be damaged
            for file in (*self._files.values(), *([self._events] if self._events else [])):
                stack.callback(file.close)
