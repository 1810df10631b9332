"""Any runs side by side: the settings that differ, their figures, and their curves."""

from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from tyro.conf import Positional

from experiments.harness import run_directory
from experiments.harness.command import make_console, run_command
from experiments.harness.environment import describe_software
from experiments.harness.settings import parse_settings
from jaxresnet.errors import UserError
from jaxresnet.options import unpublished
from jaxresnet.report.document import Report, write_report
from jaxresnet.report.plots import Curve, plot_curves
from jaxresnet.report.tables import MISSING, Column, Table, make_table, number
from jaxresnet.train.figures import BY_NAME, FIGURES, Record
from jaxresnet.train.log import lines_of, read_json_lines

EXPERIMENT = "compare"

_TIMES = ("input_wait", "input_stall", "compute")
_PLOTTED = ("loss", "test_top1")


@dataclass(frozen=True)
class CompareSettings:
    """What is compared, and where the comparison goes."""

    runs: Positional[tuple[Path, ...]] = unpublished((), affects="result")
    """The directories of two runs or more that trained."""
    out: Path | None = unpublished(None, affects="nothing")
    """Where results go. None: runs/compare/<name made from the runs>."""


SETTINGS = CompareSettings


@dataclass(frozen=True)
class Trained:
    """One training of one run."""

    title: str
    machine: str
    epochs: list[Record]

    def values(self, key: str) -> list[float]:
        """One figure of each epoch; none if the run was made before there was such a figure."""
        return [epoch[key] for epoch in self.epochs if key in epoch]

    def shown(self, key: str) -> list[float]:
        """Of a time every epoch, for their mean; of another figure the last."""
        return self.values(key) if key in _TIMES else self.values(key)[-1:]

    @property
    def rate(self) -> float:
        """Images per second."""
        return sum(self.values("images")) / sum(self.values("seconds"))


def main(arguments: list[str]) -> None:
    """Parses the command line and compares."""
    settings = parse_settings(SETTINGS, EXPERIMENT, __doc__, arguments)
    if len(settings.runs) < 2:
        raise UserError(f"needs two runs or more to compare, got {len(settings.runs)}")
    # By as much of the ends of their paths as tells them apart.
    parts = [run.absolute().parts for run in settings.runs]
    if len(set(parts)) < len(parts):
        raise UserError(f"the same run twice: {' '.join(map(str, settings.runs))}")
    length = next(n for n in range(1, 100) if len({p[-n:] for p in parts}) == len(parts))
    named = {"/".join(p[-length:]): run for p, run in zip(parts, settings.runs, strict=True)}
    compared = {name: _result_settings(run) for name, run in named.items()}
    trained = [training for name, run in named.items() for training in _trained(name, run)]
    identity = {"experiment": EXPERIMENT, "runs": [str(run.absolute()) for run in settings.runs]}
    directory = settings.out or run_directory.default_directory(EXPERIMENT, "runs", identity)
    with run_directory.open_run_directory(
        directory, identity, asdict(settings), describe_software()
    ):
        write_report(directory, _report(directory, compared, trained), make_console())
        run_directory.finish_run(directory, {"experiment": EXPERIMENT, "runs": compared})


def _result_settings(run: Path) -> dict[str, Any]:
    """What the result or its time depends on, defaults too, but for what is not set."""
    identity = run_directory.read_identity(run)
    if identity is None:
        raise UserError(
            f"{run} is not the directory of a run of this version: it has no settings.json of one"
        )
    options = run_directory.read_options(run) | identity
    return {name: value for name, value in options.items() if value not in (None, [])}


def _trained(name: str, run: Path) -> list[Trained]:
    epochs = read_json_lines(run / "epochs.jsonl")
    if not epochs:
        raise UserError(f"{run} has no finished epoch to compare")
    trained = []
    for series in dict.fromkeys(epoch["series"] for epoch in epochs):
        starts = lines_of(series, run / "starts.jsonl")
        machine = " and ".join(dict.fromkeys(start["machine"] for start in starts))
        own = [epoch for epoch in epochs if epoch["series"] == series]
        trained.append(Trained(f"{name}, {series}", machine, own))
    return trained


def _report(directory: Path, compared: dict[str, dict], trained: list[Trained]) -> Report:
    best = min(trained, key=lambda training: training.epochs[-1]["loss"])
    fastest = max(trained, key=lambda training: training.rate)
    plots = []
    for figure in (BY_NAME[name] for name in _PLOTTED):
        curves = [
            Curve(t.title, [figure.scale * value for value in t.values(figure.name)], n)
            for n, t in enumerate(trained)
        ]
        plots.append(f"{figure.name}_by_epoch.png")
        plot_curves(directory / plots[-1], "Runs side by side", "epoch", figure.axis, curves)
    note = (
        "Seconds of an epoch, means; the other figures of the last epoch, accuracies in per cent."
    )
    columns = _columns(trained)
    figures = make_table(
        "Figures", columns, trained, note, spread=lambda values, show: show(fmean(values))
    )
    return Report(
        "Runs side by side",
        f"{len(trained)} trainings of {len(compared)} runs.",
        [_settings_table(compared), figures],
        plots,
        findings=[
            f"The lowest training loss of a last epoch is {best.epochs[-1]['loss']:.3f}, of "
            f"{best.title}; the most images per second, {number(fastest.rate, 1)}, are of "
            f"{fastest.title}."
        ],
    )


def _columns(trained: list[Trained]) -> list[Column[Trained]]:
    """Of the figures those that one of them has, but for an epoch's seconds, which come apart."""
    return [
        Column("run, series", lambda t: t.title),
        Column("machine", lambda t: t.machine or MISSING),
        Column("epochs", lambda t: len(t.epochs), 0),
        Column("first\nepoch", lambda t: t.values("seconds")[0], 1),
        Column("later\nepochs", lambda t: t.values("seconds")[1:], 1),
        Column("images/s", lambda t: t.rate, 1),
        *(
            Column(f.header, lambda t, f=f: t.shown(f.name), f.digits, f.scale)
            for f in FIGURES
            if f.header and f.name != "seconds" and any(t.values(f.name) for t in trained)
        ),
    ]


def _settings_table(compared: dict[str, dict]) -> Table:
    def short(value: Any) -> str:
        """Fingerprints by their first digits; lists with spaces."""
        text = " ".join(map(str, value)) if isinstance(value, list) else str(value)
        return text if len(text) <= 40 else f"{text[:12]}…"

    rows = []
    for name in dict.fromkeys(name for settings in compared.values() for name in settings):
        values = [settings.get(name, MISSING) for settings in compared.values()]
        if any(value != values[0] for value in values):
            rows.append([name, *map(short, values)])
    note = "" if rows else "Nothing that the result depends on differs."
    return Table("Settings that differ", ["setting", *compared], rows, note)


if __name__ == "__main__":
    run_command(main, computes=False)
