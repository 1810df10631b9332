"""Every experiment on CIFAR-10, one after the other, and the report of all of them."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import tyro

from experiments.command import make_console, run_command, say
from experiments.report import SECTIONS, write_full_report
from experiments.settings import SourceSettings, at_least, check_source
from experiments.subprocesses import command_line, run_subprocess
from jaxresnet.errors import TrainingFailed

EXPERIMENT = "all"

_NO_TRAINING = ("q_parameters",)


@dataclass(frozen=True)
class TrainingOptions:
    """Given to every training; None: the experiment's own default."""

    epochs: int | None = None
    batch_size: int | None = None
    train_images: int | None = None
    eval_images: int | None = None
    width: int | None = None
    dtype: Literal["float32", "bfloat16"] | None = None
    quick: bool = False
    """Small runs on built-in images: some minutes on two cores."""


@dataclass(frozen=True)
class AllSettings:
    """All options."""

    training: TrainingOptions = TrainingOptions()
    data: SourceSettings = field(default_factory=SourceSettings)
    out: Path = Path("runs") / EXPERIMENT
    """A directory for each experiment's run, and one for the report."""
    fresh: bool = False
    """Delete what earlier starts left, and begin anew."""


def main(arguments: list[str]) -> None:
    """Parses the command line, runs every experiment in a process of its own, and reports.

    What an earlier start finished is not done again. One that fails does not keep the others.
    """
    settings = tyro.cli(
        AllSettings,
        prog=f"python -m experiments.{EXPERIMENT}",
        description=__doc__,
        args=arguments,
        config=(tyro.conf.OmitArgPrefixes, tyro.conf.FlagCreatePairsOff),
    )
    training, data = settings.training, settings.data
    quick = training.quick and data.data == "auto"
    check_source(replace(data, data="synthetic") if quick else data)
    for name in ("epochs", "batch_size", "train_images", "eval_images", "width"):
        at_least(f"--{name.replace('_', '-')}", getattr(training, name), 1)
    console = make_console()
    given = command_line((training, data), frozenset({"data"} if quick else ()))
    failed = []
    for name in SECTIONS:
        say(console, f"\n== {name}")
        options = [] if name in _NO_TRAINING else given
        fresh = ["--fresh"] if settings.fresh else []
        try:
            run_subprocess(name, [*options, *fresh, "--out", str(settings.out / name)])
        except TrainingFailed as error:
            failed.append(str(error))
    write_full_report(settings.out, settings.out / "report")
    if failed:
        raise TrainingFailed("\n".join(failed))


if __name__ == "__main__":
    run_command(main, computes=False)
