"""What a run ran on: versions, revision, device."""

import importlib.metadata
import subprocess
import sys
from contextlib import suppress
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
    packages = {}
    for name in _PACKAGES:
        with suppress(importlib.metadata.PackageNotFoundError):
            packages[name] = importlib.metadata.version(name)
    version = sys.version.split()[0]
    return {"python": version, "packages": packages, "git_revision": git_revision()}


@cache
def git_revision() -> str | None:
    """The revision of the clone that this code runs from, with + if it has changes."""
    root = Path(__file__).parents[2]
    command = ["git", "-C", str(root), "describe", "--always", "--dirty=+", "--abbrev=12"]
    with suppress(OSError, subprocess.SubprocessError):
        if (root / ".git").exists():
            return subprocess.run(
                command, capture_output=True, text=True, check=True, timeout=10
            ).stdout.strip()
    return None
