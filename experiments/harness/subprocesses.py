"""Experiments run by others, each in a process of its own."""

import os
import signal
import subprocess
import sys
from collections.abc import Mapping

from jaxresnet.errors import TrainingFailed, UserError
from jaxresnet.train.interrupt import Stopped


def run_subprocess(
    experiment: str, arguments: list[str], environment: Mapping[str, str] | None = None
) -> None:
    """subprocess_status, which must be 0; raises TrainingFailed if it is not."""
    status = subprocess_status(experiment, arguments, environment)
    if status:
        raise TrainingFailed(f"{experiment} ended with status {status}: its message is above")


def subprocess_status(
    experiment: str, arguments: list[str], environment: Mapping[str, str] | None = None
) -> int:
    """Runs python -m experiments.EXPERIMENT, which prints for itself; its exit status.

    Minus the signal's number if one ended it. A signal to stop is passed on, once, so that it saves
    its state: hence its own session, which a terminal's Ctrl-C does not reach. Raises Stopped when
    it has then ended.
    """
    command = [sys.executable, "-m", f"experiments.{experiment}", *arguments]
    variables = {**os.environ, **(environment or {})}
    process = subprocess.Popen(command, env=variables, start_new_session=True)
    received: list[int] = []

    def pass_on(number: int, _frame: object) -> None:
        received.append(number)
        process.send_signal(number)

    previous = {n: signal.signal(n, pass_on) for n in (signal.SIGINT, signal.SIGTERM)}
    try:
        status = process.wait()
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
    if received:
        raise Stopped(received[0])
    return status


def ask_process(code: str, environment: Mapping[str, str] | None = None) -> str:
    """What Python code prints, in a process of its own, so that this one holds no device.

    Raises:
      UserError: it failed, with the last line of what it said.
    """
    variables = {**os.environ, **(environment or {})}
    command = [sys.executable, "-c", code]
    process = subprocess.run(command, capture_output=True, text=True, env=variables)
    if process.returncode:
        raise UserError((process.stderr.strip() or f"status {process.returncode}").splitlines()[-1])
    return process.stdout.strip()
