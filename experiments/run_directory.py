"""The directory that a run leaves behind, and what keeps two runs out of each other's way."""

import contextlib
import fcntl
import hashlib
import importlib.metadata
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from jaxresnet import platform
from jaxresnet.errors import UserError
from jaxresnet.train.metrics import write_json

_LOCK, _SETTINGS, ENVIRONMENT = "run.lock", "settings.json", "environment.json"
_SUMMARY = "summary.json"  # written last, when a run is finished
_NOT_WRITABLE = "the output directory {} cannot be written ({}): choose another with --out"
_PACKAGES = (
    "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy", "tensorflow-datasets",
    "tensorflow-cpu", "tensorflow",
)  # fmt: skip


@contextlib.contextmanager
def open_run_directory(
    directory: Path,
    identity: dict[str, Any],
    settings: dict[str, Any],
    environment: dict[str, Any],
    *,
    fresh: bool = False,
) -> Iterator[None]:
    """Makes or reopens a run's directory, holds it, and writes its settings and environment.

    identity: what the result depends on, "experiment" among it; a directory whose identity
      differs is refused. fresh: delete what the same experiment left there.

    Raises:
      UserError: it cannot be written, holds another experiment or other settings, or another
        process is using it.
    """
    check_directory(directory, identity["experiment"])
    try:
        directory.mkdir(parents=True, exist_ok=True)
        lock = (directory / _LOCK).open("a")
    except OSError as error:
        raise UserError(_NOT_WRITABLE.format(directory, error.strerror)) from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UserError(
                f"another process is using {directory}: wait for it, or choose another "
                "directory with --out"
            ) from error
        identity = _as_json(identity)
        if fresh:
            _clear(directory)
        _check_settings(directory, identity)
        write_json(directory / _SETTINGS, {"result": identity, "all": _as_json(settings)})
        if not (directory / ENVIRONMENT).exists():
            write_json(directory / ENVIRONMENT, environment)
        yield


def check_directory(directory: Path, experiment: str) -> None:
    """Whether a run of `experiment` may go there, as far as can be seen without writing.

    Raises:
      UserError: it cannot be written, or holds another experiment or files of another kind.
    """
    existing = next(path for path in (directory, *directory.absolute().parents) if path.exists())
    if not existing.is_dir():
        raise UserError(_NOT_WRITABLE.format(directory, f"{existing} is not a directory"))
    if not os.access(existing, os.W_OK | os.X_OK):
        raise UserError(_NOT_WRITABLE.format(directory, "permission denied"))
    if not directory.exists() or not _contents(directory):
        return
    found = read_identity(directory)
    if found is None:
        raise UserError(
            f"{directory} holds files but no run of this project; choose another with --out"
        )
    if found.get("experiment") != experiment:
        raise UserError(
            f"{directory} holds a run of {found.get('experiment')}, not of {experiment}; "
            "choose another with --out"
        )


def _contents(directory: Path) -> list[Path]:
    """What is there besides the lock and files that were never finished; the settings last."""
    paths = [path for path in directory.iterdir() if path.name != _LOCK and path.suffix != ".tmp"]
    return sorted(paths, key=lambda path: path.name == _SETTINGS)


def read_identity(directory: Path) -> dict[str, Any] | None:
    """What the run there depends on; None if there is no run."""
    try:
        return dict(json.loads((directory / _SETTINGS).read_text(encoding="utf-8"))["result"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def finish_run(directory: Path, summary: dict[str, Any]) -> None:
    """Writes summary.json with the time; one that is only reported again keeps its time."""
    previous = _read_summary(directory)
    finished = previous.pop("finished", None)
    if finished is None or previous != _as_json(summary):
        finished = datetime.now(UTC).isoformat(timespec="milliseconds")
    write_json(directory / _SUMMARY, {**summary, "finished": finished})


def finished_at(run: Path) -> datetime | None:
    """When a run was finished; None if it was not."""
    try:
        return datetime.fromisoformat(_read_summary(run)["finished"])
    except (KeyError, TypeError, ValueError):
        return None


def _read_summary(directory: Path) -> dict[str, Any]:
    try:
        return dict(json.loads((directory / _SUMMARY).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return {}


def find_runs(root: Path, experiment: str, *, parts: bool = False) -> list[Path]:
    """The finished runs of an experiment below `root`, the last to be finished first.

    parts: also those that lie in another run's directory.
    """
    found = {
        path.parent: finished
        for path in root.rglob(_SUMMARY)
        if (finished := finished_at(path.parent)) is not None
        and (read_identity(path.parent) or {}).get("experiment") == experiment
        and (parts or read_identity(path.parent.parent) is None)
    }
    return sorted(found, key=found.__getitem__, reverse=True)


def _clear(directory: Path) -> None:
    """Deletes a run; settings.json last, so that it stays known for a run if that is cut short."""
    for path in _contents(directory):
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def _as_json(content: dict[str, Any]) -> dict[str, Any]:
    """What the content will be when read back from a JSON file."""
    return json.loads(json.dumps(content, default=str))


def default_directory(experiment: str, name: str, identity: dict[str, Any]) -> Path:
    """The same identity gives the same directory, so the same command finds its run again."""
    text = json.dumps(_as_json(identity), sort_keys=True)
    return Path("runs") / experiment / f"{name}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def _check_settings(directory: Path, identity: dict[str, Any]) -> None:
    found = read_identity(directory)
    if found is None or found == identity:
        return
    differences = [
        f"  {name}: {found.get(name)} there, {identity.get(name)} now"
        for name in {**found, **identity}
        if found.get(name) != identity.get(name)
    ]
    raise UserError(
        f"{directory} holds a run with other settings:\n"
        + "\n".join(differences)
        + "\nuse those settings to go on with it, --out for another directory, or --fresh to "
        "delete it and begin anew"
    )


def describe_environment() -> dict[str, Any]:
    """Versions, device and git revision, for environment.json."""
    return {**describe_software(), **platform.describe()}


def describe_software() -> dict[str, Any]:
    """Versions and git revision; nothing that would start a device's backend."""
    return {
        "python": sys.version.split()[0],
        "packages": {name: version for name in _PACKAGES if (version := _version(name))},
        "git_revision": _git_revision(),
    }


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _git_revision() -> str | None:
    """The revision of the clone that this code runs from, with + if it has changes."""
    root = Path(__file__).parents[1]
    if not (root / ".git").exists():
        return None
    command = ["git", "-C", str(root), "describe", "--always", "--dirty=+", "--abbrev=12"]
    try:
        output = subprocess.run(command, capture_output=True, text=True, check=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return None
    return output.stdout.strip()
