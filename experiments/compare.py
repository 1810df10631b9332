"""Any runs side by side: the settings that differ, their figures, and their curves."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import Annotated, Any

import tyro
from rich.console import Console

from experiments.command import make_console, run_command, say
from experiments.run_directory import (
    default_directory,
    describe_software,
    finish_run,
    open_run_directory,
    read_identity,
)
from jaxresnet.errors import UserError
from jaxresnet.report.document import Report, write_report
from jaxresnet.report.plots import Curve, plot_curves
from jaxresnet.report.tables import MISSING, Table, loss_text, number, percent, seconds
from jaxresnet.train.metrics import read_json_lines

EXPERIMENT = "compare"

_FEEDING = ("loader", "workers", "prefetch")
_MOST_CURVES = 6  # as many as there are colours


@dataclass(frozen=True)
class CompareSettings:
    """What is compared, and where the comparison goes."""

    runs: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """The directories of two runs or more that trained."""
    out: Path | None = None
    """Where results go. None: runs/compare/<name made from the runs>."""


@dataclass(frozen=True)
class Trained:
    """One training of one run."""

    label: str
    machine: str
    epochs: list[dict[str, Any]]


def main(arguments: list[str]) -> None:
    """Parses the command line and compares."""
    settings = tyro.cli(
        CompareSettings, prog=f"python -m experiments.{EXPERIMENT}", description=__doc__,
        args=arguments,
    )  # fmt: skip
    if len(settings.runs) < 2:
        raise UserError(f"needs two runs or more to compare, got {len(settings.runs)}")
    names = _names(settings.runs)
    identities = {name: _settings(run) for name, run in names.items()}
    trained = [one for name, run in names.items() for one in _trained(name, run)]
    identity = {"experiment": EXPERIMENT, "runs": [str(run.absolute()) for run in settings.runs]}
    directory = settings.out or default_directory(EXPERIMENT, "runs", identity)
    console = make_console()
    with open_run_directory(directory, identity, asdict(settings), describe_software()):
        _report(directory, identities, trained, console)


def _names(runs: Sequence[Path]) -> dict[str, Path]:
    """As much of the ends of the paths as tells them apart."""
    parts = [run.absolute().parts for run in runs]
    if len(set(parts)) < len(parts):
        raise UserError(f"the same run twice: {' '.join(map(str, runs))}")
    length = next(n for n in range(1, 100) if len({p[-n:] for p in parts}) == len(parts))
    return {"/".join(p[-length:]): run for p, run in zip(parts, runs, strict=True)}


def _settings(run: Path) -> dict[str, Any]:
    """What the result depends on, and how images were fed."""
    identity = read_identity(run)
    if identity is None:
        raise UserError(f"{run} is not the directory of a run: it has no settings.json of one")
    every = json.loads((run / "settings.json").read_text(encoding="utf-8"))["all"]
    fed = {f"--{name}": every.get("data", {}).get(name) for name in _FEEDING}
    return {**identity, **fed}


def _trained(name: str, run: Path) -> list[Trained]:
    epochs = read_json_lines(run / "epochs.jsonl")
    if not epochs:
        raise UserError(f"{run} has no finished epoch to compare")
    starts = read_json_lines(run / "starts.jsonl")
    found = []
    for series in dict.fromkeys(epoch["series"] for epoch in epochs):
        machines = [start["machine"] for start in starts if start["series"] == series]
        own = [epoch for epoch in epochs if epoch["series"] == series]
        found.append(Trained(f"{name}, {series}", " and ".join(dict.fromkeys(machines)), own))
    return found


def _report(
    directory: Path, identities: dict[str, dict], trained: list[Trained], console: Console
) -> None:
    plots = [
        _plot(directory, trained, "loss", "training loss", 1),
        _plot(directory, trained, "test_top1", "test top-1 (%)", 100),
    ]
    best = min(trained, key=lambda one: one.epochs[-1]["loss"])
    fastest = max(trained, key=_rate)
    report = Report(
        "Runs side by side",
        f"{len(trained)} trainings of {len(identities)} runs.",
        [_settings_table(identities), _figures_table(trained)],
        plots,
        findings=[
            f"The lowest training loss of a last epoch is {loss_text(best.epochs[-1]['loss'])}, of "
            f"{best.label}; the most images per second, {number(_rate(fastest), 1)}, are of "
            f"{fastest.label}."
        ],
    )
    write_report(directory, report, console)
    finish_run(directory, {"experiment": EXPERIMENT, "runs": identities})
    say(console, f"report: {directory / 'report.md'}")


def _settings_table(identities: dict[str, dict]) -> Table:
    names = dict.fromkeys(name for identity in identities.values() for name in identity)
    rows = []
    for name in names:
        values = [identity.get(name, MISSING) for identity in identities.values()]
        if len({json.dumps(value) for value in values}) > 1:
            rows.append([name, *(_short(value) for value in values)])
    note = "" if rows else "Nothing that the result depends on differs."
    return Table("Settings that differ", ["setting", *identities], rows, note)


def _short(value: Any) -> str:
    """Fingerprints by their first digits; lists with spaces."""
    text = " ".join(map(str, value)) if isinstance(value, list) else str(value)
    return text if len(text) <= 40 else f"{text[:12]}…"


def _rate(one: Trained) -> float:
    return sum(epoch["images"] for epoch in one.epochs) / sum(e["seconds"] for e in one.epochs)


def _figures_table(trained: list[Trained]) -> Table:
    rows = []
    for one in trained:
        last, times = one.epochs[-1], [epoch["seconds"] for epoch in one.epochs]
        later = fmean(times[1:]) if len(times) > 1 else None
        split = [
            seconds(fmean(epoch[key] for epoch in one.epochs))
            for key in ("input_wait", "input_stall", "compute")
        ]
        rows.append(
            [
                one.label, one.machine, str(len(one.epochs)), seconds(times[0]), seconds(later),
                *split, number(_rate(one), 1), loss_text(last["loss"]), percent(last["top1"]),
                loss_text(last["test_loss"]), percent(last["test_top1"]),
            ]
        )  # fmt: skip
    columns = [
        "run, series", "machine", "epochs", "first\nepoch", "later\nepochs", "input\nwait",
        "input\nstall", "com-\npute", "images/s", "loss", "top-1", "test\nloss",
        "test\ntop-1",
    ]  # fmt: skip
    note = "Seconds of an epoch, means; loss and top-1 (per cent) of the last epoch."
    return Table("Figures", columns, rows, note)


def _plot(directory: Path, trained: list[Trained], key: str, y_label: str, scale: float) -> str:
    name = f"{key}_by_epoch.png"
    curves = [
        Curve(
            one.label,
            [scale * epoch[key] for epoch in one.epochs],
            index % _MOST_CURVES,
            dashed=index >= _MOST_CURVES,
        )
        for index, one in enumerate(trained)
    ]
    plot_curves(directory / name, "Runs side by side", "epoch", y_label, curves)
    return name


if __name__ == "__main__":
    run_command(main, computes=False)
