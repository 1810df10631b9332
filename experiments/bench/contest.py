"""Contestants in processes of their own, asked in turn: A B C A B C."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from jaxresnet.errors import CheckFailed, UserError

_ROOT = Path(__file__).parents[2]
# Everything is timed on the CPU, and compile times are those of a first run.
_ENVIRONMENT = {
    "JAX_PLATFORMS": "cpu",
    "JAX_ENABLE_COMPILATION_CACHE": "false",
    "TORCHINDUCTOR_FORCE_DISABLE_CACHES": "1",
    "PYTHONPATH": os.pathsep.join(filter(None, [str(_ROOT), os.environ.get("PYTHONPATH")])),
}
_ERROR_LINES = 5


@dataclass(frozen=True)
class Contestant:
    """What is timed: module.set_up(settings), see worker.py. One of PyTorch's may fail."""

    name: str
    module: str
    settings: dict[str, Any]
    pytorch: bool = False


@dataclass(frozen=True)
class Result:
    """What a contestant answered: `start` when it was ready, `rounds` in each round; see Repeat."""

    name: str
    pytorch: bool
    start: dict[str, Any]
    rounds: list[dict[str, Any]]

    @property
    def rates(self) -> list[float]:
        """Images per second in each round."""
        return [answer["images"] / sum(answer["seconds"]) for answer in self.rounds]

    @property
    def seconds(self) -> list[float]:
        """The mean in each round of what was timed on its own."""
        return [sum(answer["seconds"]) / len(answer["seconds"]) for answer in self.rounds]


@dataclass(frozen=True)
class Contest:
    """left_out: by name, why PyTorch's contestants that failed did."""

    results: list[Result]
    left_out: dict[str, str]

    @property
    def has_pytorch(self) -> bool:
        return any(result.pytorch for result in self.results)

    @property
    def reference(self) -> str:
        """What speeds are relative to."""
        return "the fastest of PyTorch" if self.has_pytorch else self.results[0].name

    def relative_speed(self, *results: Result) -> list[float]:
        """In each round, the fastest of these over the fastest of PyTorch, or the first of all."""
        references = [result for result in self.results if result.pytorch] or self.results[:1]
        rates, base = (
            [max(rates) for rates in zip(*(result.rates for result in group), strict=True)]
            for group in (results, references)
        )
        return [rate / reference for rate, reference in zip(rates, base, strict=True)]


def spread(values: Sequence[float]) -> dict[str, float]:
    """As results.json keeps one value for each round."""
    return {"median": median(values), "low": min(values), "high": max(values)}


class _ContestantFailed(Exception):
    """The message says why."""


def run_contest(
    contestants: Sequence[Contestant],
    rounds: int,
    count: int,
    torch_python: str | None,
    tell: Callable[[str], None],
) -> Contest:
    """Starts the contestants one after the other, then asks them in turn for `count` repetitions.

    Args:
      torch_python: runs PyTorch's contestants.
      tell: is given a line for each part of the work.

    Raises:
      CheckFailed: one that is not PyTorch's failed.
    """
    answers: dict[str, list[dict[str, Any]]] = {each.name: [] for each in contestants}
    left_out: dict[str, str] = {}
    with contextlib.ExitStack() as stack:
        workers = {}
        for contestant in contestants:
            python = torch_python if contestant.pytorch and torch_python else sys.executable
            worker = contextlib.closing(_answers(contestant, python, count))
            workers[contestant.name] = stack.enter_context(worker)
        for number in range(rounds + 1):
            if number:
                tell(f"round {number} of {rounds} …")
            for name, pytorch in ((each.name, each.pytorch) for each in contestants):
                if name in left_out:
                    continue
                if not number:
                    tell(f"{name}: getting ready …")
                try:
                    answers[name].append(next(workers[name]))
                except _ContestantFailed as failure:
                    if not pytorch:
                        raise CheckFailed(f"{name} failed:\n{failure}") from failure
                    left_out[name] = str(failure)
                    tell(f"{name}: left out, it failed:\n{failure}")
    results = [
        Result(each.name, each.pytorch, answers[each.name][0], answers[each.name][1:])
        for each in contestants
        if each.name not in left_out
    ]
    return Contest(results, left_out)


def _answers(contestant: Contestant, python: str, count: int) -> Generator[dict[str, Any]]:
    """A contestant's answers: when it is ready, then after each `count` repetitions.

    Its process starts with the first; closing the iterator ends it and all that it started.
    """
    worker = [python, "-m", "experiments.bench.worker", contestant.module]
    with (
        tempfile.TemporaryFile("w+", errors="replace") as errors,
        subprocess.Popen(
            [*worker, json.dumps(contestant.settings, default=str)],
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
                answer = json.loads(line)
                if "error" in answer:
                    raise _ContestantFailed(answer["error"].strip())
                yield answer
                with contextlib.suppress(BrokenPipeError):  # it is dead, and its status says why
                    os.write(process.stdin.fileno(), f"{count}\n".encode())
            status = process.wait()
            errors.seek(0)
            lines = [f"ended with status {status}", *errors.read().splitlines()[-_ERROR_LINES:]]
            raise _ContestantFailed("\n".join(lines))
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
        subprocess.run(command, capture_output=True, text=True, check=True)
        return command[0]
    except (OSError, subprocess.CalledProcessError) as error:
        if python is None:
            return None
        problem = str(getattr(error, "stderr", error)).strip().rpartition("\n")[2]
        raise UserError(
            f"--torch-python {python} cannot import numpy and torch ({problem}): give an "
            "interpreter that has both, or leave the option out"
        ) from error
