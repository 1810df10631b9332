"""Every experiment on CIFAR-10, one after the other, and the report of all of them."""

from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import ClassVar, Literal

from experiments.harness.catalogue import list_published_experiments
from experiments.harness.command import make_console, run_command, say
from experiments.harness.settings import parse_settings, unpublished
from experiments.harness.subprocesses import run_subprocess
from experiments.report import write_full_report
from jaxresnet.data.sources import SourceOptions
from jaxresnet.errors import TrainingFailed
from jaxresnet.options import command_line, options_of

EXPERIMENT = "all"


@dataclass(frozen=True)
class TrainingOptions:
    """Given to every training; None: the experiment's own default."""

    epochs: int | None = unpublished(None, affects="result", at_least=1)
    batch_size: int | None = unpublished(None, affects="result", at_least=1)
    train_images: int | None = unpublished(None, affects="result", at_least=1)
    eval_images: int | None = unpublished(None, affects="result", at_least=1)
    width: int | None = unpublished(None, affects="result", at_least=1)
    dtype: Literal["float32", "bfloat16"] | None = unpublished(None, affects="result")


@dataclass(frozen=True)
class AllSettings:
    """What is passed on to the experiments, as far as they have such an option, and where to."""

    training: TrainingOptions = TrainingOptions()
    source: SourceOptions = SourceOptions()
    quick: bool = unpublished(False, affects="result")
    """Small runs on built-in images: some minutes on two cores."""
    out: Path = unpublished(Path("runs") / EXPERIMENT, affects="nothing")
    """A directory for each experiment's run, and one for the report."""
    fresh: bool = unpublished(False, affects="nothing")
    """Delete what earlier starts left, and begin anew."""
    QUICK: ClassVar = {"data": "synthetic"}


SETTINGS = AllSettings


def main(arguments: list[str]) -> None:
    """Parses the command line, runs every experiment in a process of its own, and reports.

    What an earlier start finished is not done again. An experiment that fails does not keep the
    others; it is given those of the options that it has and does not vary itself.
    """
    settings = parse_settings(SETTINGS, EXPERIMENT, __doc__, arguments)
    console, out = make_console(), settings.out
    names = {o.name for o in options_of(settings)}
    failed = []
    for experiment in list_published_experiments():
        say(console, f"\n== {experiment}")
        own = list(options_of(import_module(f"experiments.{experiment}").SETTINGS()))
        varied = {o.declared.varies for o in own if o.value}
        not_taken = names - ({o.name for o in own} - varied)
        passed_on = [*command_line(settings, (*not_taken, "out")), "--out", str(out / experiment)]
        try:
            run_subprocess(experiment, passed_on)
        except TrainingFailed as error:
            failed.append(str(error))
    write_full_report(out, out / "report")
    if failed:
        raise TrainingFailed("\n".join(failed))


if __name__ == "__main__":
    run_command(main, computes=False)
