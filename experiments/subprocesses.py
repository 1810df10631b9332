"""Experiments run by others, each in a process of its own."""

import dataclasses
import os
import subprocess
import sys
from collections.abc import Iterable, Mapping
from typing import Any

from jaxresnet.errors import TrainingFailed


def command_line(groups: Iterable[Any], skip: frozenset[str] = frozenset()) -> list[str]:
    """The options that give dataclasses of settings their values; None and False need none."""
    arguments: list[str] = []
    for group in groups:
        for field in dataclasses.fields(group):
            value = getattr(group, field.name)
            if field.name in skip or value is None or value is False or value == ():
                continue
            arguments.append(f"--{field.name.replace('_', '-')}")
            if value is not True:
                values = value if isinstance(value, tuple) else (value,)
                arguments += [str(one) for one in values]
    return arguments


def run_subprocess(
    experiment: str, arguments: list[str], environment: Mapping[str, str] | None = None
) -> None:
    """Runs python -m experiments.EXPERIMENT, which prints for itself.

    Raises:
      KeyboardInterrupt: it was interrupted.
      TrainingFailed: it ended with another status than 0.
    """
    command = [sys.executable, "-m", f"experiments.{experiment}", *arguments]
    status = subprocess.run(command, env={**os.environ, **(environment or {})}).returncode
    if status in (130, 143):
        raise KeyboardInterrupt
    if status:
        raise TrainingFailed(f"{experiment} ended with status {status}: its message is above")
