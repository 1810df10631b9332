"""Contestants: what is timed, each in a process of its own."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Generator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jaxresnet.errors import UserError

# Everything is timed on the CPU, and compile times are those of a first run.
_ENVIRONMENT = {
    "JAX_PLATFORMS": "cpu",
    "JAX_ENABLE_COMPILATION_CACHE": "false",
    "TORCHINDUCTOR_FORCE_DISABLE_CACHES": "1",
    "PYTHONPATH": f"{Path(__file__).parents[2]}{os.pathsep}{os.environ.get('PYTHONPATH', '')}",
}
_ERROR_LINES = 5


@dataclass
class Contestant:
    """What is timed, module.set_up(settings), and what it answered; see worker.py.

    Attributes:
      pytorch: it is PyTorch's, and may fail.
      start: the answer when it was ready.
    """

    name: str
    module: str
    settings: dict[str, Any]
    pytorch: bool = False
    start: dict[str, Any] = field(default_factory=dict)
    rounds: list[dict[str, Any]] = field(default_factory=list)

    @property
    def rates(self) -> list[float]:
        """Images per second in each round."""
        return [answer["images"] / sum(answer["seconds"]) for answer in self.rounds]

    @property
    def seconds(self) -> list[float]:
        """The mean in each round of what was timed on its own."""
        return [sum(answer["seconds"]) / len(answer["seconds"]) for answer in self.rounds]

    def answers(self, python: str, count: int) -> Generator[dict[str, Any]]:
        """The answer when it is ready, then after each `count` repetitions; {"error": ...} if not.

        The process starts with the first; closing the generator ends it and all that it started.
        """
        settings = json.dumps(self.settings, default=str)
        with (
            tempfile.TemporaryFile("w+", errors="replace") as errors,
            subprocess.Popen(
                [python, "-m", "experiments.bench.worker", self.module, settings],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                env={**os.environ, **_ENVIRONMENT},
                start_new_session=True,  # a group that can be ended as a whole
            ) as process,
        ):
            assert process.stdin is not None
            assert process.stdout is not None
            try:
                while line := process.stdout.readline():
                    yield json.loads(line)
                    with contextlib.suppress(BrokenPipeError):  # dead, and its status says why
                        os.write(process.stdin.fileno(), f"{count}\n".encode())
                status = process.wait()
                end = f"ended by signal {-status}" if status < 0 else f"ended with status {status}"
                errors.seek(0)
                yield {"error": "\n".join([end, *errors.read().splitlines()[-_ERROR_LINES:]])}
            finally:
                with contextlib.suppress(OSError):
                    os.killpg(process.pid, signal.SIGKILL)


def find_torch(python: Path | None) -> str | None:
    """An interpreter that can import torch: the given one, else this one; None if it cannot.

    Raises:
      UserError: the given one cannot.
    """
    command = [str(python or sys.executable), "-c", "import numpy, torch"]
    try:
        subprocess.run(command, capture_output=True, text=True, check=True, timeout=300)
        return command[0]
    except (OSError, subprocess.SubprocessError) as error:
        if python is None:
            return None
        problem = str(getattr(error, "stderr", None) or error).strip().rpartition("\n")[2]
        raise UserError(
            f"--torch-python {python} cannot import numpy and torch ({problem}): give an "
            "interpreter that has both, or leave the option out"
        ) from error
