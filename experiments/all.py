"""Every published experiment, one after the other, and the report of all of them."""

from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Annotated, ClassVar

from experiments.harness.catalogue import ORIGINS, list_published_experiments, origin_of
from experiments.harness.command import make_console, run_command, say
from experiments.harness.settings import DirectoryOptions, parse_settings
from experiments.harness.subprocesses import run_subprocess
from experiments.report import write_full_report
from jaxresnet.errors import TrainingFailed
from jaxresnet.options import command_line, one_of, options_of, unpublished
from jaxresnet.train.recipe import Recipe

EXPERIMENT = "all"


@dataclass(frozen=True)
class AllSettings(Recipe):
    """What differs from the defaults is passed on to the experiments that have such an option."""

    parts: tuple[Annotated[str, one_of(ORIGINS, "part")], ...] = unpublished(
        ("labs",), affects="result", distinct=True
    )
    """Whose experiments. labs: ResNet-18 on CIFAR-10. talk: ResNet-152 on ImageNet, for weeks on a
    GPU if --epochs and --train-images leave it whole. --quick: both."""
    output: DirectoryOptions = DirectoryOptions(out=Path("runs") / EXPERIMENT)
    quick: bool = unpublished(False, affects="result")
    """Small runs on built-in images: some minutes on two cores."""
    QUICK: ClassVar = {"data": "synthetic", "parts": tuple(ORIGINS)}


SETTINGS = AllSettings


def main(arguments: list[str]) -> None:
    """Parses the command line, runs every experiment in a process of its own, and reports.

    What an earlier start finished is not done again. An experiment that fails does not keep the
    others; it is given those of the options that it has and does not vary itself.
    """
    settings = parse_settings(SETTINGS, EXPERIMENT, __doc__, arguments)
    console, out, failed = make_console(), settings.output.out, []
    assert out is not None
    options = list(options_of(settings))
    defaults = {o.name: o.value for o in options_of(SETTINGS())}
    given = {o.name for o in options if o.value != defaults[o.name]} - {"out", "parts"}
    chosen = [e for e in list_published_experiments() if origin_of(e) in settings.parts]
    for experiment in chosen:
        say(console, f"\n== {experiment}")
        own = list(options_of(import_module(f"experiments.{experiment}").SETTINGS()))
        varied = {o.declared.varies for o in own if o.value}
        passed_on = given & ({o.name for o in own} - varied)
        arguments = command_line(settings, {o.name for o in options} - passed_on)
        try:
            run_subprocess(experiment, [*arguments, "--out", str(out / experiment)])
        except TrainingFailed as error:
            failed.append(str(error))
    write_full_report(out, out / "report")
    if failed:
        raise TrainingFailed("\n".join(failed))


if __name__ == "__main__":
    run_command(main, computes=False)
