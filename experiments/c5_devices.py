"""C5: the time of an epoch on each device there is, and on others by their runs' directories."""

import json
import os
import subprocess
import sys
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import mean
from typing import Annotated, Any

import tyro
from rich.console import Console

from experiments.command import make_console, run_command, say
from experiments.published import published
from experiments.run_directory import (
    check_directory,
    default_directory,
    describe_software,
    find_runs,
    finish_run,
    open_run_directory,
    read_identity,
)
from experiments.runner import result_options
from experiments.settings import RepeatSettings, TimedSettings, parse_settings
from experiments.subprocesses import command_line, run_subprocess
from jaxresnet.errors import TrainingFailed, UserError
from jaxresnet.report.document import Report, write_report
from jaxresnet.report.plots import plot_bars
from jaxresnet.report.tables import MISSING, Table, median_and_range, number, plural, seconds
from jaxresnet.train.metrics import read_json_lines

EXPERIMENT = "c5_devices"

# The experiments whose runs can be shown: they train once.
_TIMED = ("c2_timing", "c1_training")
_PROBE = "from jax.extend.backend import backends; print(*backends())"


@dataclass(frozen=True)
class DeviceSettings(RepeatSettings):
    """Where to train."""

    devices: tuple[str, ...] = ()
    """JAX's platforms, such as cpu cuda tpu. None: JAX_PLATFORMS, else all that JAX finds."""
    with_runs: Annotated[tuple[Path, ...], tyro.conf.arg(name="with")] = ()
    """Show these runs too: directories of c5_devices, c2_timing or c1_training, made elsewhere."""


@dataclass(frozen=True)
class C5Settings(TimedSettings):
    timing: DeviceSettings = DeviceSettings()


@dataclass(frozen=True)
class DeviceRun:
    """What a run took on a device. first, later: seconds of each training's first epoch and of the
    others. images: of each epoch.
    """

    machine: str
    device: str
    backend: str
    first: list[float]
    later: list[float]
    images: int
    identity: dict[str, Any]

    @property
    def epoch_seconds(self) -> float:
        """Seconds of an epoch, over all of them."""
        return mean([*self.first, *self.later])

    @property
    def rate(self) -> float:
        """Images per second."""
        return self.images / self.epoch_seconds


def main(arguments: list[str]) -> None:
    """Parses the command line, trains in a process for each device, and reports."""
    settings = parse_settings(C5Settings, EXPERIMENT, __doc__ or "", arguments)
    console = make_console()
    others = list(
        dict.fromkeys(run for path in settings.timing.with_runs for run in _runs_below(path))
    )
    output = settings.output
    groups = (settings.data, settings.model, settings.training)
    source = {"--data": settings.data.data, "--data-dir": settings.data.data_dir}
    identity = {"experiment": EXPERIMENT, **source, **result_options(settings)}
    directory = output.out or default_directory(EXPERIMENT, settings.model.model, identity)
    check_directory(directory, EXPERIMENT)
    devices = _find_devices(settings.timing.devices)
    with open_run_directory(
        directory, identity, asdict(settings), describe_software(), fresh=output.fresh
    ):
        failed = []
        for device in devices:
            say(console, f"{EXPERIMENT}: training on {device}")
            arguments = command_line((*groups, output), frozenset({"out", "fresh", "quick"}))
            arguments += ["--repeats", str(settings.timing.repeats)]
            arguments += ["--out", str(directory / device)]
            try:
                run_subprocess("c2_timing", arguments, {"JAX_PLATFORMS": device})
            except TrainingFailed as error:
                failed.append(f"{device}: {error}")
        own = sorted(run.resolve() for run in find_runs(directory, "c2_timing", parts=True))
        runs = _tell_apart([_read(run) for run in dict.fromkeys([*own, *others])])
        if runs:
            _report(directory, runs, console)
        if failed:
            raise TrainingFailed("\n".join(failed))


def _find_devices(chosen: tuple[str, ...]) -> tuple[str, ...]:
    """The chosen platforms, those of JAX_PLATFORMS, or all that JAX finds; each was started once.

    In processes of their own, since a backend that runs keeps the accelerator's memory.

    Raises:
      UserError: a platform is named twice or does not start.
    """
    given = chosen or tuple(filter(None, os.environ.get("JAX_PLATFORMS", "").split(",")))
    if len(set(given)) < len(given):
        raise UserError(f"a device is named twice: {' '.join(given)}")
    for device in given:
        _probe(device)
    return given or _probe("")


def _probe(platforms: str) -> tuple[str, ...]:
    environment = {**os.environ, "JAX_PLATFORMS": platforms}
    command = [sys.executable, "-c", _PROBE]
    probe = subprocess.run(command, capture_output=True, text=True, env=environment)
    if probe.returncode:
        lines = probe.stderr.strip().splitlines() or [f"status {probe.returncode}"]
        name = f"JAX's platform {platforms}" if platforms else "JAX"
        raise UserError(
            f"{name} does not start: {lines[-1]}\nname platforms that this machine has, such as "
            "--devices cpu"
        )
    return tuple(probe.stdout.split())


def _runs_below(path: Path) -> list[Path]:
    """Raises UserError if there is no finished run of one training."""
    found = [
        run.resolve() for experiment in _TIMED for run in find_runs(path, experiment, parts=True)
    ]
    if not found:
        raise UserError(
            f"--with {path} holds no finished run of {' or '.join(_TIMED)}: give the directory of "
            "a run of c5_devices, c2_timing or c1_training, copied from the other machine"
        )
    return found


def _read(run: Path) -> DeviceRun:
    environment = json.loads((run / "environment.json").read_text(encoding="utf-8"))
    epochs = read_json_lines(run / "epochs.jsonl")
    starts = read_json_lines(run / "starts.jsonl")
    return DeviceRun(
        machine=" and ".join(dict.fromkeys(start["machine"] for start in starts)),
        device=environment["device"],
        backend=environment["backend"],
        first=[epoch["seconds"] for epoch in epochs if epoch["epoch"] == 0],
        later=[epoch["seconds"] for epoch in epochs if epoch["epoch"] > 0],
        images=epochs[0]["images"],
        identity=read_identity(run) or {},
    )


def _tell_apart(runs: list[DeviceRun]) -> list[DeviceRun]:
    """Numbers the runs of equal machines."""
    seen: dict[str, int] = {}
    found = []
    for run in runs:
        seen[run.machine] = count = seen.get(run.machine, 0) + 1
        found.append(run if count == 1 else replace(run, machine=f"{run.machine} ({count})"))
    return found


def _report(directory: Path, runs: list[DeviceRun], console: Console) -> None:
    slowest = min(runs, key=lambda run: run.rate)
    report = Report(
        "C5: devices",
        f"{_settings_words(runs[0])} {_differences(runs)}".strip(),
        [_table(runs, slowest)],
        [_plot(directory, runs)],
        asked="How long does an epoch take on a CPU, and how long on a GPU?",
        findings=_findings(runs, slowest),
    )
    write_report(directory, report, console)
    rows = [{**asdict(run), "images_per_second": run.rate} for run in runs]
    finish_run(directory, {"experiment": EXPERIMENT, "devices": rows})
    say(console, f"report: {directory / 'report.md'}")


def _settings_words(run: DeviceRun) -> str:
    options = run.identity
    return (
        f"{options['--model']} of width {options['--width']} in {options['--dtype']}, batch size "
        f"{options['--batch-size']}, {plural(options['--epochs'], 'epoch')} of {run.images:,} "
        f"images ({options['images']})."
    )


def _differences(runs: list[DeviceRun]) -> str:
    """Options of later runs that differ from the first's."""
    found = []
    for run in runs[1:]:
        options = [
            f"{name} {run.identity.get(name)}"
            for name, value in runs[0].identity.items()
            if name not in ("experiment", "device", "data fingerprint")
            and run.identity.get(name, value) != value
        ]
        if options:
            found.append(f"{run.machine} ran with {', '.join(options)}.")
    return " ".join(found)


def _table(runs: list[DeviceRun], slowest: DeviceRun) -> Table:
    rows = [
        [
            run.machine,
            str(len(run.first) + len(run.later)),
            seconds(run.epoch_seconds),
            median_and_range(run.first, seconds),
            median_and_range(run.later, seconds) if run.later else MISSING,
            number(run.rate, 1),
            number(run.rate / slowest.rate, 1),
        ]
        for run in runs
    ]
    rows += [
        [f"  {lab}, {device}", "5", seconds(mean(times)), first, MISSING, rate, ratio]
        for lab, device, times, first, rate, ratio in _published_rows()
    ]
    note = (
        "Seconds of an epoch: the mean; medians, with the least and the greatest where there are "
        "several, of first and of later epochs. The ratio is in images/s, to the slowest of this "
        "run's rows, and to the same lab's CPU. The labs' epochs have 50,000 images; lab-a's "
        "figures are approximate, lab-c's are computation alone."
    )
    columns = [
        "device", "epochs", "mean\nepoch", "first\nepoch", "later\nepochs", "images/s", "ratio",
    ]  # fmt: skip
    words = runs[0].identity["images"]
    return Table(f"The time of an epoch: this run ({words}) beside the labs", columns, rows, note)


def _published_rows() -> list[tuple[str, str, list[float], str, str, str]]:
    c5 = published()["c5"]
    times = {
        "lab-a": {"cpu": [c5["lab-a"]["cpu_epoch_s"]], "gpu": [c5["lab-a"]["gpu_epoch_s"]]},
        "lab-b": {"cpu": c5["lab-b"]["cpu_epoch_s"], "gpu": c5["lab-b"]["gpu_epoch_s"]},
        "lab-c": {"cpu": c5["lab-c"]["cpu_compute_s"], "gpu": c5["lab-c"]["gpu_compute_s"]},
    }
    return [
        (
            lab,
            device.upper(),
            values,
            seconds(values[0]) if len(values) > 1 else MISSING,
            number(50_000 / mean(values), 1),
            number(mean(by_device["cpu"]) / mean(values), 1),
        )
        for lab, by_device in times.items()
        for device, values in by_device.items()
    ]


def _findings(runs: list[DeviceRun], slowest: DeviceRun) -> list[str]:
    fastest = max(runs, key=lambda run: run.rate)
    labs = ", ".join(
        f"{lab} {ratio}" for lab, device, *_, ratio in _published_rows() if device == "GPU"
    )
    if len(runs) == 1:
        return [
            f"An epoch took {seconds(slowest.epoch_seconds)} s on {slowest.machine}, "
            f"{number(slowest.rate, 1)} images/s. To add another device, run the same command "
            "where there is one, and give its run's directory here by --with. GPUs were faster "
            f"than CPUs by these factors: {labs}."
        ]
    return [
        f"{fastest.machine} trains {number(fastest.rate / slowest.rate, 1)} times as fast as "
        f"{slowest.machine}. The labs' GPUs were faster than their CPUs by these factors: {labs}."
    ]


def _plot(directory: Path, runs: list[DeviceRun]) -> str:
    name = "images_per_second.png"
    ours = {run.machine: run.rate for run in runs}
    theirs = {
        f"{lab}, {device}": 50_000 / mean(times) for lab, device, times, *_ in _published_rows()
    }
    title = f"{runs[0].identity['images']}: training speed by device"
    plot_bars(directory / name, title, "images/s", {"this run": ours, "published": theirs})
    return name


if __name__ == "__main__":
    run_command(main, computes=False)
