"""Every experiment on CIFAR-10, one after the other, and the report of all of them."""

from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

from experiments.harness.catalogue import list_published_experiments
from experiments.harness.command import make_console, run_command, say
from experiments.harness.subprocesses import run_subprocess
from experiments.report import write_full_report
from jaxresnet.data.sources import SourceOptions
from jaxresnet.errors import TrainingFailed
from jaxresnet.options import (
    check_options,
    command_line,
    option,
    options_of,
    parse_options,
    replace_options,
)

EXPERIMENT = "all"


def _passed_on(**bounds: Any) -> Any:
    return option(None, affects="result", published=False, says="", **bounds)


@dataclass(frozen=True)
class TrainingOptions:
    """Given to every training; None: the experiment's own default."""

    epochs: int | None = _passed_on(at_least=1)
    batch_size: int | None = _passed_on(at_least=1)
    train_images: int | None = _passed_on(at_least=1)
    eval_images: int | None = _passed_on(at_least=1)
    width: int | None = _passed_on(at_least=1)
    dtype: Literal["float32", "bfloat16"] | None = _passed_on()
    quick: bool = option(False, affects="result", published=False, says="")
    """Small runs on built-in images: some minutes on two cores."""


@dataclass(frozen=True)
class OutputOptions:
    """Where results go."""

    out: Path = option(Path("runs") / EXPERIMENT, affects="nothing", published=False, says="")
    """A directory for each experiment's run, and one for the report."""
    fresh: bool = option(False, affects="nothing", published=False, says="")
    """Delete what earlier starts left, and begin anew."""


@dataclass(frozen=True)
class AllSettings:
    training: TrainingOptions = TrainingOptions()
    source: SourceOptions = SourceOptions()
    output: OutputOptions = OutputOptions()


SETTINGS = AllSettings


def main(arguments: list[str]) -> None:
    """Parses the command line, runs every experiment in a process of its own, and reports.

    What an earlier start finished is not done again. One that fails does not keep the others.
    """
    command = f"python -m experiments.{EXPERIMENT}"
    settings = parse_options(SETTINGS, command, __doc__ or "", arguments)
    quick = settings.training.quick and settings.source.data == "auto"
    if quick:
        check_options(replace_options(settings, data="synthetic"))
    given = replace_options(settings, data=None) if quick else settings
    console, out = make_console(), settings.output.out
    failed = []
    for name in list_published_experiments():
        say(console, f"\n== {name}")
        fresh = ["--fresh"] if settings.output.fresh else []
        try:
            run_subprocess(name, [*_taken_by(name, given), *fresh, "--out", str(out / name)])
        except TrainingFailed as error:
            failed.append(str(error))
    write_full_report(out, out / "report")
    if failed:
        raise TrainingFailed("\n".join(failed))


def _taken_by(experiment: str, settings: AllSettings) -> list[str]:
    """The arguments for those of the options that an experiment has."""
    own = {o.name for o in options_of(import_module(f"experiments.{experiment}").SETTINGS())}
    others = {o.name for o in options_of(settings)} - own
    return command_line(settings, (*others, "out", "fresh"))


if __name__ == "__main__":
    run_command(main, computes=False)
