"""The directory that a run leaves behind, and what keeps two runs out of each other's way."""

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from jaxresnet.errors import UserError
from jaxresnet.train.log import write_json

# Of what settings.json holds. It changes when a default's meaning does, or the layout of a run.
VERSION = 2

ENVIRONMENT = "environment.json"
_LOCK, _SETTINGS = "run.lock", "settings.json"
_SUMMARY = "summary.json"  # written last, when a run is finished
_NOT_WRITABLE = "the output directory {} cannot be written ({}): choose another with --out"


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

    Args:
      identity: what the result depends on, "experiment" among it; a directory whose identity
        differs is refused.
      environment: of this start; that of the first start is kept, with what later ones changed.
      fresh: delete what the same experiment left there.

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
        identity = _as_json({"version": VERSION, **identity})
        if fresh:
            _clear(directory)
        _check_identity(directory, identity)
        write_json(directory / _SETTINGS, {"result": identity, "all": _as_json(settings)})
        _write_environment(directory / ENVIRONMENT, _as_json(environment))
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
    found = _read_settings(directory).get("result")
    if found is None:
        raise UserError(
            f"{directory} holds files but no run of this project; choose another with --out"
        )
    if found.get("experiment") != experiment:
        raise UserError(
            f"{directory} holds a run of {found.get('experiment')}, not of {experiment}; "
            "choose another with --out"
        )


def read_identity(directory: Path) -> dict[str, Any] | None:
    """What the run there depends on; None if there is no run, or one of another version."""
    identity = _read_settings(directory).get("result", {})
    return identity if identity.get("version") == VERSION else None


def read_settings(directory: Path) -> dict[str, Any]:
    """All settings of the run there, by group; empty if there is none."""
    return _read_settings(directory).get("all", {})


def read_environment(directory: Path) -> dict[str, Any]:
    """Of the first start, with `later_starts`: what others changed."""
    return json.loads((directory / ENVIRONMENT).read_text(encoding="utf-8"))


def finish_run(directory: Path, summary: dict[str, Any]) -> None:
    """Writes summary.json with the time; one that is only reported again keeps its time."""
    previous = _read_json(directory / _SUMMARY)
    finished = previous.pop("finished", None)
    if finished is None or previous != _as_json(summary):
        finished = datetime.now(UTC).isoformat(timespec="milliseconds")
    write_json(directory / _SUMMARY, {**summary, "finished": finished})


def finished_at(run: Path) -> datetime | None:
    """When a run was finished; None if it was not."""
    try:
        return datetime.fromisoformat(_read_json(run / _SUMMARY)["finished"])
    except (KeyError, TypeError, ValueError):
        return None


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


def default_directory(experiment: str, name: str, identity: dict[str, Any]) -> Path:
    """The same identity gives the same directory, so the same command finds its run again."""
    text = json.dumps(_as_json({"version": VERSION, **identity}), sort_keys=True)
    return Path("runs") / experiment / f"{name}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def _contents(directory: Path) -> list[Path]:
    """What is there besides the lock and files that were never finished; the settings last."""
    paths = [path for path in directory.iterdir() if path.name != _LOCK and path.suffix != ".tmp"]
    return sorted(paths, key=lambda path: path.name == _SETTINGS)


def _read_settings(directory: Path) -> dict[str, dict[str, Any]]:
    content = _read_json(directory / _SETTINGS)
    return content if all(isinstance(part, dict) for part in content.values()) else {}


def _read_json(path: Path) -> dict[str, Any]:
    try:
        return {**json.loads(path.read_text(encoding="utf-8"))}
    except (OSError, ValueError, TypeError, RecursionError):
        return {}


def _clear(directory: Path) -> None:
    """Deletes a run; settings.json last, so that it stays known for a run if that is cut short."""
    for path in _contents(directory):
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def _as_json(content: dict[str, Any]) -> dict[str, Any]:
    """What the content will be when read back from a JSON file."""
    return json.loads(json.dumps(content, default=str))


def _check_identity(directory: Path, identity: dict[str, Any]) -> None:
    found = _read_settings(directory).get("result")
    if found is None or found == identity:
        return
    if found.get("version") != identity["version"]:
        raise UserError(
            f"{directory} holds a run of another version of this project, which cannot be "
            "continued: choose another directory with --out, or delete the run with --fresh"
        )
    differences = [
        f"  {name}: {found.get(name, 'default')} there, {identity.get(name, 'default')} now"
        for name in {**found, **identity}
        if found.get(name) != identity.get(name)
    ]
    raise UserError(
        f"{directory} holds a run with other settings:\n"
        + "\n".join(differences)
        + "\nuse those settings to go on with it, --out for another directory, or --fresh to "
        "delete it and begin anew"
    )


def _write_environment(path: Path, environment: dict[str, Any]) -> None:
    first = _read_json(path)
    if not first:
        write_json(path, {**environment, "later_starts": []})
        return
    later = first["later_starts"]
    latest = {**first, **(later[-1] if later else {})}
    changes = {name: value for name, value in environment.items() if latest.get(name) != value}
    if changes:
        changed = {n: v for n, v in environment.items() if first.get(n) != v}
        write_json(path, {**first, "later_starts": [*later, changed]})
