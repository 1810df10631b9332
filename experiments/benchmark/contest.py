"""Contestants in processes of their own, asked in turn: A B C A B C."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from jaxresnet.errors import CheckFailed, UserError

_ROOT = Path(__file__).parents[2]
# Everything is timed on the CPU, and compile times are those of a first run.
_ENVIRONMENT = {
    "JAX_PLATFORMS": "cpu",
    "JAX_ENABLE_COMPILATION_CACHE": "false",
    "TORCHINDUCTOR_FORCE_DISABLE_CACHES": "1",
}
_ERROR_LINES = 5
_IMPORT_TORCH_LIMIT = 300.0  # seconds


@dataclass(frozen=True)
class Contestant:
    """module: its set_up(settings) runs in a process of `python`; see worker.py.

    pytorch: it may fail, and is left out then.
    """

    name: str
    module: str
    settings: dict[str, Any]
    python: str = sys.executable
    pytorch: bool = False


@dataclass(frozen=True)
class Result:
    """What a contestant answered. start: when it was ready; rounds: in each round, see Repeat."""

    name: str
    pytorch: bool
    start: dict[str, Any]
    rounds: list[dict[str, Any]] = field(default_factory=list)

    @property
    def rates(self) -> list[float]:
        """Images per second in each round."""
        return [answer["images"] / sum(answer["seconds"]) for answer in self.rounds]


@dataclass(frozen=True)
class Contest:
    """left_out: by name, why PyTorch's contestants that failed did."""

    results: list[Result]
    left_out: dict[str, str]


class _WorkerFailed(Exception):
    """A process ended without an answer; the message is the end of its error output."""


@dataclass(frozen=True)
class _Worker:
    """One contestant's process, and the file that takes its error output."""

    process: subprocess.Popen[str]
    errors: IO[bytes]

    def answer(self) -> dict[str, Any]:
        """Waits for the next answer."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            status = self.process.wait()
            self.errors.seek(0)
            text = self.errors.read().decode(errors="replace").strip()
            words = last_words(text)
            if status > 0 and words:
                raise _WorkerFailed(words)
            how = f"ended by signal {-status}" if status < 0 else f"ended with status {status}"
            raise _WorkerFailed(f"{how}\n{words}".strip())
        return json.loads(line)

    def ask(self, count: int) -> dict[str, Any]:
        """Has it do so many repetitions."""
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it is dead, and its errors say why
            os.write(self.process.stdin.fileno(), f"{count}\n".encode())
        return self.answer()


@contextlib.contextmanager
def _running(contestant: Contestant) -> Iterator[_Worker]:
    """Starts a contestant's process; afterwards ends it and all that it started."""
    command = [contestant.python, "-m", "experiments.benchmark.worker", contestant.module]
    with (
        tempfile.TemporaryFile() as errors,
        subprocess.Popen(
            [*command, json.dumps(contestant.settings, default=str)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env=_environment(),
            start_new_session=True,  # a group that can be ended as a whole
        ) as process,
    ):
        try:
            yield _Worker(process, errors)
        finally:
            with contextlib.suppress(OSError):
                os.killpg(process.pid, signal.SIGKILL)


def last_words(text: str) -> str:
    """The end of an error output: what follows its traceback, else its last lines."""
    lines = text.splitlines()
    indented = [index for index, line in enumerate(lines) if line.startswith("  ")]
    after = lines[indented[-1] + 1 :] if indented else []
    end = after[:_ERROR_LINES] or lines[-_ERROR_LINES:]
    return "\n".join(line for line in end if line.strip())


def _environment() -> dict[str, str]:
    """This process's, with this project where any interpreter finds it."""
    paths = [str(_ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, **_ENVIRONMENT, "PYTHONPATH": os.pathsep.join(paths)}


def run_contest(
    contestants: Sequence[Contestant], rounds: int, count: int, tell: Callable[[str], None]
) -> Contest:
    """Starts the contestants one after the other, then asks them in turn for `count` repetitions.

    tell: is given a line for each part of the work.

    Raises:
      CheckFailed: one that is not PyTorch's failed.
    """
    results: dict[str, Result] = {}
    left_out: dict[str, str] = {}
    with contextlib.ExitStack() as stack:
        workers: dict[str, _Worker] = {}

        def ask(contestant: Contestant, question: Callable[[], dict[str, Any]]) -> dict | None:
            try:
                return question()
            except _WorkerFailed as failure:
                if not contestant.pytorch:
                    raise CheckFailed(f"{contestant.name} failed:\n{failure}") from failure
                left_out[contestant.name] = str(failure)
                results.pop(contestant.name, None)
                tell(f"{contestant.name}: left out, it failed:\n{failure}")
                return None

        for contestant in contestants:
            tell(f"{contestant.name}: getting ready …")
            worker = workers[contestant.name] = stack.enter_context(_running(contestant))
            if (start := ask(contestant, worker.answer)) is not None:
                results[contestant.name] = Result(contestant.name, contestant.pytorch, start)
        for number in range(1, rounds + 1):
            tell(f"round {number} of {rounds} …")
            for contestant in contestants:
                name = contestant.name
                if name not in results:
                    continue
                answer = ask(contestant, lambda worker=workers[name]: worker.ask(count))
                if answer is not None:
                    results[name].rounds.append(answer)
    return Contest(list(results.values()), left_out)


def find_torch(python: Path | None) -> str | None:
    """An interpreter that can import torch: the given one, else this one; None if it cannot.

    Raises:
      UserError: the given one cannot.
    """
    command = [str(python or sys.executable), "-c", "import numpy, torch"]
    try:
        found = subprocess.run(command, capture_output=True, text=True, timeout=_IMPORT_TORCH_LIMIT)
        problem = found.stderr.strip().rpartition("\n")[2] if found.returncode else None
    except (OSError, subprocess.TimeoutExpired) as error:
        problem = str(error)
    if problem is None:
        return command[0]
    if python is None:
        return None
    raise UserError(
        f"--torch-python {python} cannot import numpy and torch ({problem}): give an interpreter "
        "that has both, or leave the option out"
    )
