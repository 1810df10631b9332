"""The directory that a run leaves behind, and what keeps two runs out of each other's way."""

import contextlib
import fcntl
import hashlib
import importlib.metadata
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from experiments.settings import Settings
from jaxresnet import platform
from jaxresnet.data.dataset import Dataset
from jaxresnet.errors import UserError
from jaxresnet.train.metrics import write_json

# Where the images came from and how they were fed makes no difference to the result: the
# fingerprint of the data set stands for them.
_FREE = {
    "data": {"data", "data_dir", "loader", "workers", "prefetch"},
    "output": {"out", "fresh", "quick", "checkpoint_every"},
}
_PACKAGES = (
    "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy", "tensorflow-datasets",
    "tensorflow-cpu", "tensorflow",
)  # fmt: skip


def result_settings(experiment: str, settings: Settings, dataset: Dataset) -> dict[str, Any]:
    """What the result depends on, by option name: two runs that agree in it are the same run."""
    options = {
        f"--{name.replace('_', '-')}": value
        for group, values in asdict(settings).items()
        for name, value in values.items()
        if name not in _FREE.get(group, ())
    }
    options["--train-images"] = len(dataset.train)
    options["--eval-images"] = len(dataset.test)
    return {
        "experiment": experiment,
        "images": dataset.words,
        "data fingerprint": dataset.fingerprint(),
        **options,
    }


@contextlib.contextmanager
def open_run_directory(
    experiment: str, settings: Settings, dataset: Dataset
) -> Iterator[Path]:
    """Makes or reopens the run's directory, holds it, and writes settings and environment.

    Raises:
      UserError: it cannot be written, holds another experiment or other settings, or another
        process is using it.
    """
    wanted = json.loads(json.dumps(result_settings(experiment, settings, dataset)))
    directory = settings.output.out or _default_directory(experiment, settings, dataset, wanted)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        lock = (directory / "run.lock").open("a")
    except OSError as error:
        raise UserError(
            f"the output directory {directory} cannot be written: {error.strerror}; "
            "choose another with --out"
        ) from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise UserError(
                f"another process is using {directory}; wait for it, or choose another "
                "directory with --out"
            ) from error
        _check_or_clear(directory, wanted, fresh=settings.output.fresh)
        all_settings = json.loads(json.dumps(asdict(settings), default=str))
        write_json(directory / "settings.json", {"result": wanted, "all": all_settings})
        write_json(directory / "environment.json", environment(dataset))
        yield directory


def _default_directory(
    experiment: str, settings: Settings, dataset: Dataset, wanted: dict[str, Any]
) -> Path:
    """The same settings give the same name, so the same command finds its run again."""
    digest = hashlib.sha256(json.dumps(wanted, sort_keys=True).encode()).hexdigest()[:8]
    return Path("runs") / experiment / f"{dataset.name}-{settings.model.model}-{digest}"


def _check_or_clear(directory: Path, wanted: dict[str, Any], *, fresh: bool) -> None:
    others = [path for path in directory.iterdir() if path.name != "run.lock"]
    if not others:
        return
    try:
        found = json.loads((directory / "settings.json").read_text(encoding="utf-8"))["result"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{directory} holds files but no run of this project; choose another with --out"
        ) from error
    if found.get("experiment") != wanted["experiment"]:
        raise UserError(
            f"{directory} holds a run of {found.get('experiment')}, not of "
            f"{wanted['experiment']}; choose another with --out"
        )
    if fresh:
        for path in others:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    elif found != wanted:
        differences = [
            f"  {name}: {found.get(name)} there, {wanted.get(name)} now"
            for name in {**found, **wanted}
            if found.get(name) != wanted.get(name)
        ]
        raise UserError(
            f"{directory} holds a run with other settings:\n"
            + "\n".join(differences)
            + "\nuse those settings to go on with it, --out for another directory, or --fresh "
            "to delete it and begin anew"
        )


def environment(dataset: Dataset) -> dict[str, Any]:
    """Versions, device, git revision and data set, for environment.json."""
    return {
        "python": sys.version.split()[0],
        "packages": {name: version for name in _PACKAGES if (version := _version(name))},
        **platform.describe(),
        "git_revision": _git_revision(),
        "images": dataset.words,
        "data_location": dataset.location,
        "data_fingerprint": dataset.fingerprint(),
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
