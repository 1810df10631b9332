"""The devices that JAX finds, and what runs took on them."""

import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any

from experiments.harness.published import TRAIN_IMAGES, published
from experiments.harness.run_directory import (
    find_runs,
    read_environment,
    read_identity,
    read_options,
)
from experiments.harness.subprocesses import ask_process
from jaxresnet.errors import UserError
from jaxresnet.report.tables import Column, Table, make_table
from jaxresnet.train.log import read_json_lines

# The experiments whose runs can be shown: they train once.
_TIMED = ("c2_timing", "c1_training")
_PROBE = "from jax.extend.backend import backends; print(*backends())"


@dataclass(frozen=True)
class DeviceRun:
    """What a run took on a device; a lab's too.

    Attributes:
      name: of the machine. backend: JAX's name of the kind of device.
      first, later: seconds of each training's first epoch and of the others; lab-a's is later.
      images: of each epoch.
    """

    name: str
    backend: str
    first: list[float]
    later: list[float]
    images: int
    identity: dict[str, Any]

    @property
    def epochs(self) -> int | None:
        """How many were timed; None if all that is known is the time of one."""
        return len(self.first) + len(self.later) if self.first else None

    @property
    def epoch_seconds(self) -> float:
        """Seconds of an epoch, over all of them."""
        return mean([*self.first, *self.later])

    @property
    def rate(self) -> float:
        """Images per second."""
        return self.images / self.epoch_seconds


def find_devices(chosen: tuple[str, ...]) -> tuple[str, ...]:
    """The chosen platforms, those of JAX_PLATFORMS, or all that JAX finds; each was started once.

    In processes of their own, since a backend that runs keeps the accelerator's memory.

    Raises:
      UserError: a platform is named twice or does not start.
    """
    given = chosen or tuple(filter(None, os.environ.get("JAX_PLATFORMS", "").split(",")))
    if len(set(given)) < len(given):
        raise UserError(f"a device is named twice: {' '.join(given)}")
    started: list[str] = []
    for platforms in given or ("",):
        try:
            started = ask_process(_PROBE, {"JAX_PLATFORMS": platforms}).split()
        except UserError as error:
            name = f"JAX's platform {platforms}" if platforms else "JAX"
            raise UserError(
                f"{name} does not start: {error}\nname platforms that this machine has, such as "
                "--devices cpu"
            ) from error
    return given or tuple(started)


def find_timed_runs(path: Path) -> list[Path]:
    """The finished runs of one training below a directory.

    Raises:
      UserError: there is none.
    """
    runs = [run.resolve() for name in _TIMED for run in find_runs(path, name, parts=True)]
    if not runs:
        raise UserError(
            f"--with {path} holds no finished run of {' or '.join(_TIMED)}: give the directory of "
            "a run of c5_devices, c2_timing or c1_training, copied from the other machine"
        )
    return runs


def read_device_runs(runs: list[Path]) -> list[DeviceRun]:
    """Each run once; those of equal machines are numbered."""
    seen: Counter[str] = Counter()
    devices = []
    for run in dict.fromkeys(runs):
        machines = [start["machine"] for start in read_json_lines(run / "starts.jsonl")]
        name = " and ".join(dict.fromkeys(machines))
        seen[name] += 1
        epochs = read_json_lines(run / "epochs.jsonl")
        devices.append(
            DeviceRun(
                name if seen[name] == 1 else f"{name} ({seen[name]})",
                read_environment(run)["backend"],
                [epoch["seconds"] for epoch in epochs if epoch["epoch"] == 0],
                [epoch["seconds"] for epoch in epochs if epoch["epoch"] > 0],
                epochs[0]["images"],
                read_options(run) | (read_identity(run) or {}),
            )
        )
    return devices


def published_device_runs() -> dict[str, list[DeviceRun]]:
    """By lab, its CPU and its GPU; of lab-c the computation alone."""
    labs: dict[str, list[DeviceRun]] = {}
    for lab, figures in published()["c5"].items():
        for backend in ("cpu", "gpu"):
            key = f"{backend}_epoch_s"
            times = figures[key if key in figures else f"{backend}_compute_s"]
            first, later = (times[:1], times[1:]) if isinstance(times, list) else ([], [times])
            name = f"  {lab}, {backend.upper()}"
            run = DeviceRun(name, backend, first, later, TRAIN_IMAGES, {})
            labs.setdefault(lab, []).append(run)
    return labs


def make_device_table(groups: list[list[DeviceRun]]) -> Table:
    """Each device beside the slowest of its group: this run's, or a lab's."""
    rows = [(run, min(group, key=lambda r: r.rate)) for group in groups for run in group]
    columns: list[Column[tuple[DeviceRun, DeviceRun]]] = [
        Column("device", lambda row: row[0].name),
        Column("epochs", lambda row: row[0].epochs, 0),
        Column("mean\nepoch", lambda row: row[0].epoch_seconds, 1),
        Column("first\nepoch", lambda row: row[0].first, 1),
        Column("later\nepochs", lambda row: row[0].later, 1),
        Column("images/s", lambda row: row[0].rate, 1),
        Column("ratio", lambda row: row[0].rate / row[1].rate, 1),
    ]
    note = (
        "Seconds of an epoch: the mean; medians, with the least and the greatest where there are "
        "several, of first and of later epochs. The ratio is in images/s, to the slowest of this "
        "run's rows, and to the same lab's CPU. The labs' epochs have 50,000 images; lab-a's "
        "figures are approximate, lab-c's are computation alone."
    )
    title = f"The time of an epoch: this run ({rows[0][0].identity['images']}) beside the labs"
    return make_table(title, columns, rows, note)
