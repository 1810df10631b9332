"""The directory that a run leaves behind, and what keeps two runs out of each other's way."""

import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from experiments.harness.settings import Settings
from jaxresnet.errors import UserError
from jaxresnet.options import flag, options_of
from jaxresnet.train.log import write_json

# Of what settings.json holds. It changes when a default's meaning does, or the layout of a run.
VERSION = 2

_LOCK, _SETTINGS, _ENVIRONMENT = "run.lock", "settings.json", "environment.json"
_SUMMARY = "summary.json"  # written last, when a run is finished
_NOT_WRITABLE = "the output directory {} cannot be written ({}): choose another with --out"


@contextmanager
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
      identity: what the result depends on, "experiment" among it.
      environment: of this start; that of the first start is kept, with what later ones changed.
      fresh: delete what the same experiment left there.

    Raises UserError if it cannot be written, is in use, or holds a run of another identity.
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
        if fresh:
            # settings.json last: it stays known for a run if this is cut short.
            for path in sorted(_contents(directory), key=lambda path: path.name == _SETTINGS):
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        identity = _as_json({"version": VERSION, **identity})
        _check_identity(directory, identity, settings)
        write_json(directory / _SETTINGS, {"result": identity, "all": _as_json(settings)})
        environment = _as_json(environment)
        path, first = directory / _ENVIRONMENT, {**environment, "later_starts": []}
        if path.exists() and not (first := _read_json(path)):
            raise UserError(
                f"{path}, which says what software and machine made the run, is damaged: move it "
                "away to go on without it, or choose another directory with --out"
            )
        changed = {name: value for name, value in environment.items() if first.get(name) != value}
        if changed != [{}, *first["later_starts"]][-1]:
            first["later_starts"].append(changed)
        write_json(path, first)
        yield


def check_directory(directory: Path | None, experiment: str) -> None:
    """Raises UserError if no run of `experiment` can go there, as far as can be seen unwritten.

    None: a directory by default_directory, which holds nothing else.
    """
    if directory is None:
        return
    existing = next(path for path in (directory, *directory.absolute().parents) if path.exists())
    if not existing.is_dir():
        raise UserError(_NOT_WRITABLE.format(directory, f"{existing} is not a directory"))
    if not os.access(existing, os.W_OK | os.X_OK):
        raise UserError(_NOT_WRITABLE.format(directory, "permission denied"))
    if not directory.exists() or not _contents(directory):
        return
    holds = "files but no run of this project"
    if identity := read_settings(directory).get("result"):
        if identity.get("experiment") == experiment:
            return
        holds = f"a run of {identity.get('experiment')}, not of {experiment}"
    raise UserError(f"{directory} holds {holds}; choose another with --out")


def _check_identity(directory: Path, identity: dict[str, Any], settings: dict[str, Any]) -> None:
    there = read_settings(directory).get("result", identity)
    if there.get("version") != identity["version"]:
        raise UserError(
            f"{directory} holds a run of another version of this project, which cannot be "
            "continued: choose another directory with --out, or delete the run with --fresh"
        )
    # Defaults are no part of the identities, but the settings have them.
    there_shown, now_shown = read_options(directory) | there, _flags(settings) | identity
    differences = [
        f"  {name}: {there_shown.get(name)} there, {now_shown.get(name)} now"
        for name in {**there, **identity}
        if there.get(name) != identity.get(name)
    ]
    if differences:
        raise UserError(
            f"{directory} holds a run with other settings:\n"
            + "\n".join(differences)
            + "\nuse those settings to go on with it, --out for another directory, or --fresh to "
            "delete it and begin anew"
        )


def default_directory(experiment: str, name: str, identity: dict[str, Any]) -> Path:
    """The same identity gives the same directory, so the same command finds its run again."""
    text = json.dumps({"version": VERSION, **identity}, sort_keys=True, default=str)
    return Path("runs") / experiment / f"{name}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def read_settings(directory: Path) -> dict[str, dict[str, Any]]:
    """Of the run there: `result`, what that depends on, and `all`, by group; empty without one."""
    content = _read_json(directory / _SETTINGS)
    return content if all(isinstance(part, dict) for part in content.values()) else {}


def read_options(directory: Path) -> dict[str, Any]:
    """The options of the run there, by flag, but for those that change nothing in the results."""
    free = {o.flag for o in options_of(Settings()) if o.declared.affects == "nothing"}
    options = _flags(read_settings(directory).get("all", {}))
    return {name: value for name, value in options.items() if name not in free}


def _flags(settings: dict[str, Any]) -> dict[str, Any]:
    """The values of settings in groups, by flag."""
    options = {}
    for name, value in settings.items():
        options |= _flags(value) if isinstance(value, dict) else {flag(name): value}
    return options


def read_identity(directory: Path) -> dict[str, Any] | None:
    """What the run there depends on; None if there is no run, or one of another version."""
    identity = read_settings(directory).get("result", {})
    return identity if identity.get("version") == VERSION else None


def read_environment(directory: Path) -> dict[str, Any]:
    """Of the first start, with `later_starts`: what others changed."""
    return json.loads((directory / _ENVIRONMENT).read_text(encoding="utf-8"))


def finish_run(directory: Path, summary: dict[str, Any]) -> None:
    """Writes summary.json with the time; one that is only reported again keeps its time."""
    previous = _read_json(directory / _SUMMARY)
    finished = previous.pop("finished", None)
    if finished is None or previous != _as_json(summary):
        finished = datetime.now(UTC).isoformat(timespec="milliseconds")
    write_json(directory / _SUMMARY, {**summary, "finished": finished})


def finished_at(run: Path) -> str:
    """When a run was finished, in ISO 8601 and UTC; empty if it was not."""
    return _read_json(run / _SUMMARY).get("finished", "")


def find_runs(root: Path, experiment: str, *, parts: bool = False) -> list[Path]:
    """The finished runs of an experiment below `root`, the last to be finished first.

    parts: also those that lie in another run's directory.
    """
    finished = {
        run: time
        for run in (path.parent for path in root.rglob(_SUMMARY))
        if (time := finished_at(run))
        and (read_identity(run) or {}).get("experiment") == experiment
        and (parts or read_identity(run.parent) is None)
    }
    return sorted(finished, key=finished.__getitem__, reverse=True)


def _contents(directory: Path) -> list[Path]:
    """What is there besides the lock and files that were never finished."""
    return [path for path in directory.iterdir() if path.name != _LOCK and path.suffix != ".tmp"]


def _read_json(path: Path) -> dict[str, Any]:
    try:
        return {**json.loads(path.read_text(encoding="utf-8"))}
    except (OSError, ValueError, TypeError, RecursionError):
        return {}


def _as_json(content: dict[str, Any]) -> dict[str, Any]:
    """What the content will be when read back from a JSON file."""
    return json.loads(json.dumps(content, default=str))
