"""What a run ran on: versions, revision, device."""

import importlib.metadata
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

from jaxresnet import platform

_PACKAGES = (
    "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy", "tensorflow-datasets",
    "tensorflow-cpu", "tensorflow", "torch",
)  # fmt: skip


def describe_environment() -> dict[str, Any]:
    """Versions, git revision, device and settings."""
    return {**describe_software(), **platform.describe()}


def describe_software() -> dict[str, Any]:
    """Versions and git revision; nothing that would start a device's backend."""
    return {
        "python": sys.version.split()[0],
        "packages": {name: version for name in _PACKAGES if (version := _version(name))},
        "git_revision": git_revision(),
    }


def describe_start() -> dict[str, Any]:
    """By what one start of a run is told from another, in starts.jsonl."""
    return {"machine": platform.machine(), "revision": git_revision()}


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


@cache
def git_revision() -> str | None:
    """The revision of the clone that this code runs from, with + if it has changes."""
    root = Path(__file__).parents[2]
    if not (root / ".git").exists():
        return None
    command = ["git", "-C", str(root), "describe", "--always", "--dirty=+", "--abbrev=12"]
    try:
        output = subprocess.run(command, capture_output=True, text=True, check=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return None
    return output.stdout.strip()
