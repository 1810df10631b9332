"""Runs small experiments for the tests, and reads what they left."""

import os
import subprocess
import sys
from pathlib import Path

import orbax.checkpoint as ocp

from experiments.harness.command import run_command
from jaxresnet.train.log import read_json_lines

ROOT = Path(__file__).parents[2]
SMALL = [
    *("--data", "synthetic", "--train-images", "60", "--eval-images", "30"),
    *("--width", "4", "--batch-size", "20"),
]


def run(main, directory: Path, *arguments: str) -> int:
    """Runs a small training experiment as the shell would; returns its exit status."""
    return command(main, *SMALL, "--out", directory, *arguments)


def command(main, *arguments: object) -> int:
    """Runs a command as the shell would, in this process; returns its exit status."""
    argv, sys.argv = sys.argv, ["command", *map(str, arguments)]
    try:
        run_command(main)
    except SystemExit as ended:
        return int(ended.code or 0)
    finally:
        sys.argv = argv
    return 0


def start(
    experiment: str, *arguments: object, stderr: int = subprocess.PIPE
) -> subprocess.Popen[str]:
    """Starts a command in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", f"experiments.{experiment}", *map(str, arguments)],
        cwd=ROOT,
        env={**os.environ, "JAX_PLATFORMS": "cpu"},
        stdout=subprocess.PIPE,
        stderr=stderr,
        text=True,
    )


def losses(directory: Path) -> list[float]:
    return [step["loss"] for step in read_json_lines(directory / "steps.jsonl")]


def saved_params(directory: Path) -> dict:
    """The parameters in the newest checkpoint of SGD."""
    steps = [path for path in (directory / "checkpoints" / "sgd").iterdir() if path.is_dir()]
    newest = max(steps, key=lambda path: int(path.name))
    return ocp.StandardCheckpointer().restore((newest / "params").absolute())


def table_rows(report: str) -> list[list[str]]:
    """The cells of all lines of a report's tables."""
    lines = (line for line in report.splitlines() if line.startswith("|"))
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def row(report: str, label: str) -> list[str]:
    """The cells of the first row that begins with the label."""
    return next(cells for cells in table_rows(report) if cells[0] == label)
