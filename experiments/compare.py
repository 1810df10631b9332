"""Any runs side by side: the settings that differ, their figures, and their curves."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import Annotated, Any

import tyro

from experiments.harness.command import make_console, run_command
from experiments.harness.environment import describe_software
from experiments.harness.run_directory import (
    default_directory,
    finish_run,
    open_run_directory,
    read_identity,
    read_settings,
)
from jaxresnet.data.loaders import LoaderOptions
from jaxresnet.errors import UserError
from jaxresnet.options import option, options_of, parse_options
from jaxresnet.report.document import Report, write_report
from jaxresnet.report.plots import Curve, plot_curves
from jaxresnet.report.tables import MISSING, Column, Table, make_table, number
from jaxresnet.train.figures import BY_NAME, FIGURES, Figure, Record
from jaxresnet.train.log import lines_of, read_json_lines

EXPERIMENT = "compare"

_TIMES = ("seconds", "input_wait", "input_stall", "compute")
_PLOTTED = ("loss", "test_top1")


@dataclass(frozen=True)
class CompareSettings:
    """What is compared, and where the comparison goes."""

    runs: Annotated[tuple[Path, ...], tyro.conf.Positional] = option(
        (), affects="result", published=False, says=""
    )
    """The directories of two runs or more that trained."""
    out: Path | None = option(None, affects="nothing", published=False, says="")
    """Where results go. None: runs/compare/<name made from the runs>."""


SETTINGS = CompareSettings


@dataclass(frozen=True)
class Trained:
    """One training of one run."""

    title: str
    machine: str
    epochs: list[Record]

    @property
    def rate(self) -> float:
        """Images per second."""
        images, seconds = (sum(e[key] for e in self.epochs) for key in ("images", "seconds"))
        return images / seconds

    def figure(self, figure: Figure) -> float:
        """Of times the mean over the epochs, of others the last."""
        values = [epoch[figure.name] for epoch in self.epochs]
        return fmean(values) if figure.name in _TIMES else values[-1]


def main(arguments: list[str]) -> None:
    """Parses the command line and compares."""
    command = f"python -m experiments.{EXPERIMENT}"
    settings = parse_options(SETTINGS, command, __doc__ or "", arguments)
    if len(settings.runs) < 2:
        raise UserError(f"needs two runs or more to compare, got {len(settings.runs)}")
    names = _names(settings.runs)
    compared = {name: _result_settings(run) for name, run in names.items()}
    trained = [training for name, run in names.items() for training in _trained(name, run)]
    identity = {"experiment": EXPERIMENT, "runs": [str(run.absolute()) for run in settings.runs]}
    directory = settings.out or default_directory(EXPERIMENT, "runs", identity)
    with open_run_directory(directory, identity, asdict(settings), describe_software()):
        write_report(directory, _report(directory, compared, trained), make_console())
        finish_run(directory, {"experiment": EXPERIMENT, "runs": compared})


def _names(runs: Sequence[Path]) -> dict[str, Path]:
    """As much of the ends of the paths as tells them apart."""
    parts = [run.absolute().parts for run in runs]
    length = next(n for n in range(1, 100) if len({p[-n:] for p in parts}) == len(parts))
    return {"/".join(p[-length:]): run for p, run in zip(parts, runs, strict=True)}


def _result_settings(run: Path) -> dict[str, Any]:
    """What the result depends on, and how images were fed."""
    identity = read_identity(run)
    if identity is None:
        raise UserError(
            f"{run} is not the directory of a run of this version: it has no settings.json of one"
        )
    fed = read_settings(run).get("loader", {})
    return {**identity, **{o.flag: fed.get(o.name) for o in options_of(LoaderOptions())}}


def _trained(name: str, run: Path) -> list[Trained]:
    epochs = read_json_lines(run / "epochs.jsonl")
    if not epochs:
        raise UserError(f"{run} has no finished epoch to compare")
    trained = []
    for series in dict.fromkeys(epoch["series"] for epoch in epochs):
        machines = [start["machine"] for start in lines_of(series, run / "starts.jsonl")]
        own = lines_of(series, run / "epochs.jsonl")
        trained.append(Trained(f"{name}, {series}", " and ".join(dict.fromkeys(machines)), own))
    return trained


def _report(directory: Path, compared: dict[str, dict], trained: list[Trained]) -> Report:
    best = min(trained, key=lambda training: training.epochs[-1]["loss"])
    fastest = max(trained, key=lambda training: training.rate)
    return Report(
        "Runs side by side",
        f"{len(trained)} trainings of {len(compared)} runs.",
        [_settings_table(compared), _figures_table(trained)],
        [_plot(directory, trained, BY_NAME[name]) for name in _PLOTTED],
        findings=[
            f"The lowest training loss of a last epoch is {best.epochs[-1]['loss']:.3f}, of "
            f"{best.title}; the most images per second, {number(fastest.rate, 1)}, are of "
            f"{fastest.title}."
        ],
    )


def _settings_table(compared: dict[str, dict]) -> Table:
    rows = []
    for name in dict.fromkeys(name for settings in compared.values() for name in settings):
        values = [settings.get(name, "default") for settings in compared.values()]
        if len({json.dumps(value) for value in values}) > 1:
            rows.append([name, *(_short(value) for value in values)])
    note = "" if rows else "Nothing that the result depends on differs."
    return Table("Settings that differ", ["setting", *compared], rows, note)


def _short(value: Any) -> str:
    """Fingerprints by their first digits; lists with spaces."""
    text = " ".join(map(str, value)) if isinstance(value, list) else str(value)
    return text if len(text) <= 40 else f"{text[:12]}…"


def _figures_table(trained: list[Trained]) -> Table:
    def later(training: Trained) -> float | None:
        seconds = [epoch["seconds"] for epoch in training.epochs[1:]]
        return fmean(seconds) if seconds else None

    def column(figure: Figure) -> Column[Trained]:
        return Column(figure.header, lambda t: t.figure(figure), figure.digits, figure.scale)

    columns: list[Column[Trained]] = [
        Column("run, series", lambda training: training.title),
        Column("machine", lambda training: training.machine or MISSING),
        Column("epochs", lambda training: len(training.epochs), 0),
        Column("first\nepoch", lambda training: training.epochs[0]["seconds"], 1),
        Column("later\nepochs", later, 1),
        Column("images/s", lambda training: training.rate, 1),
        *(column(figure) for figure in FIGURES if figure.header),
    ]
    note = "Seconds of an epoch, means; the other figures of the last epoch, top-1 in per cent."
    return make_table("Figures", columns, trained, note)


def _plot(directory: Path, trained: list[Trained], figure: Figure) -> str:
    name = f"{figure.name}_by_epoch.png"
    curves = [
        Curve(training.title, [figure.scale * epoch[figure.name] for epoch in training.epochs], n)
        for n, training in enumerate(trained)
    ]
    plot_curves(directory / name, "Runs side by side", "epoch", figure.axis, curves)
    return name


if __name__ == "__main__":
    run_command(main, computes=False)
