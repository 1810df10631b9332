"""Event files for TensorBoard; the package `tensorboard` is an optional extra."""

import shutil
from collections.abc import Mapping
from pathlib import Path

from jaxresnet.errors import UserError


class EventFiles:
    """Scalars by series and step, each series in a directory of its own.

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

    def clear(self, series: str) -> None:
        """Forgets what a series has."""
        if series in self._writers:
            self._writers.pop(series).close()
        shutil.rmtree(self._directory / series, ignore_errors=True)

    def add(self, series: str, step: int, scalars: Mapping[str, float]) -> None:
        """Adds each scalar under its name."""
        if series not in self._writers:
            self._writers[series] = self._create(str(self._directory / series))
        for name, value in scalars.items():
            self._writers[series].add_scalar(name, value, step)

    def close(self) -> None:
        for writer in self._writers.values():
            writer.close()
