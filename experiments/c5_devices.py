"""C5: the time of an epoch on each device there is, and on others by their runs' directories."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import tyro

from experiments.harness import devices, run_directory
from experiments.harness.claims import claim
from experiments.harness.command import make_console, run_command, say
from experiments.harness.devices import DeviceRun
from experiments.harness.environment import describe_software
from experiments.harness.run import result_options
from experiments.harness.settings import RepeatOptions, TimedSettings, parse_settings
from experiments.harness.subprocesses import run_subprocess
from jaxresnet.errors import TrainingFailed
from jaxresnet.options import command_line, describe_options, unpublished
from jaxresnet.report.document import Claim, Report, write_report
from jaxresnet.report.plots import plot_bars
from jaxresnet.report.tables import number

EXPERIMENT = "c5_devices"

# Options of this experiment alone, and those of which each device's training has its own.
_NOT_PASSED_ON = ("devices", "with_runs", "out", "fresh", "quick")


@dataclass(frozen=True)
class DeviceOptions(RepeatOptions):
    """Where to train."""

    devices: tuple[str, ...] = unpublished((), affects="nothing")
    """JAX's platforms, such as cpu cuda tpu. None: JAX_PLATFORMS, else all that JAX finds."""
    with_runs: Annotated[tuple[Path, ...], tyro.conf.arg(name="with")] = unpublished(
        (), affects="nothing"
    )
    """Show these runs too: directories of c5_devices, c2_timing or c1_training, made elsewhere."""


@dataclass(frozen=True)
class C5Settings(TimedSettings):
    timing: DeviceOptions = DeviceOptions()


SETTINGS = C5Settings


def main(arguments: list[str]) -> None:
    """Parses the command line, trains in a process for each device, and reports."""
    settings = parse_settings(SETTINGS, EXPERIMENT, __doc__ or "", arguments)
    console = make_console()
    others = [run for path in settings.timing.with_runs for run in devices.find_timed_runs(path)]
    source = {"--data": settings.images.data, "--data-dir": settings.images.data_dir}
    identity = {"experiment": EXPERIMENT, **source, **result_options(settings)}
    output = settings.output
    directory = output.out or run_directory.default_directory(
        EXPERIMENT, settings.model.model, identity
    )
    platforms = devices.find_devices(settings.timing.devices)
    with run_directory.open_run_directory(
        directory, identity, asdict(settings), describe_software(), fresh=output.fresh
    ):
        failed = []
        for device in platforms:
            say(console, f"{EXPERIMENT}: training on {device}")
            passed_on = [*command_line(settings, _NOT_PASSED_ON), "--out", str(directory / device)]
            try:
                run_subprocess("c2_timing", passed_on, {"JAX_PLATFORMS": device})
            except TrainingFailed as error:
                failed.append(f"{device}: {error}")
        own = sorted(
            run.resolve() for run in run_directory.find_runs(directory, "c2_timing", parts=True)
        )
        runs = devices.read_device_runs([*own, *others])
        if runs:
            write_report(directory, report(directory, settings, runs), console)
            rows = [{**asdict(run), "images_per_second": run.rate} for run in runs]
            run_directory.finish_run(directory, {"experiment": EXPERIMENT, "devices": rows})
        if failed:
            raise TrainingFailed("\n".join(failed))


def report(directory: Path, settings: C5Settings, runs: list[DeviceRun]) -> Report:
    """Each device's epochs beside the labs' CPUs and GPUs."""
    first, labs = runs[0].identity, devices.published_device_runs()
    options = ", ".join(describe_options(settings, C5Settings()))
    introduction = [f"{options}; {runs[0].images:,} {first['images']} an epoch."]
    for run in runs[1:]:
        differences = [
            f"{name} {value}"
            for name, value in run.identity.items()
            if name.startswith("--") and name in first and value != first[name]
        ]
        if differences:
            introduction.append(f"{run.name} ran with {', '.join(differences)}.")
    plot = "images_per_second.png"
    groups = {"this run": runs, "published": [run for lab in labs.values() for run in lab]}
    rates = {title: {r.name.strip(): r.rate for r in group} for title, group in groups.items()}
    title = f"{first['images']}: training speed by device"
    plot_bars(directory / plot, title, "images/s", rates)
    factors = ", ".join(
        f"{lab} {number(gpu.rate / cpu.rate, 1)}" for lab, (cpu, gpu) in labs.items()
    )
    return Report(
        "C5: devices",
        " ".join(introduction),
        [devices.make_device_table([runs, *labs.values()])],
        [plot],
        asked="How long does an epoch take on a CPU, and how long on a GPU?",
        findings=[_finding(runs, factors)],
        claims=[_claim(runs, factors)],
    )


def _finding(runs: list[DeviceRun], factors: str) -> str:
    slowest, fastest = (pick(runs, key=lambda run: run.rate) for pick in (min, max))
    if len(runs) == 1:
        return (
            f"An epoch took {number(slowest.epoch_seconds, 1)} s on {slowest.name}, "
            f"{number(slowest.rate, 1)} images/s. To add another device, run the same command "
            "where there is one, and give its run's directory here by --with. GPUs were faster "
            f"than CPUs by these factors: {factors}."
        )
    return (
        f"{fastest.name} trains {number(fastest.rate / slowest.rate, 1)} times as fast as "
        f"{slowest.name}. The labs' GPUs were faster than their CPUs by these factors: {factors}."
    )


def _claim(runs: list[DeviceRun], factors: str) -> Claim:
    """They agree if a GPU is at least ten times as fast as a CPU, as in all three labs."""
    cpus, others = ([r.rate for r in runs if (r.backend == "cpu") == cpu] for cpu in (True, False))
    ratio = max(others) / max(cpus) if cpus and others else None
    return claim(
        f"a GPU is at least ten times as fast as a CPU ({factors})",
        f"{ratio:.1f} times as fast" if ratio else "no CPU and GPU to compare",
        None if ratio is None else ratio >= 10,
        "it depends on both devices",
    )


if __name__ == "__main__":
    run_command(main, computes=False)
