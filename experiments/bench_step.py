"""Benchmark of one training step on the CPU, in turn with PyTorch, eager and compiled."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Literal

import jax
import tyro

from experiments.benchmark.arithmetic import step_gflop
from experiments.benchmark.contest import Contestant, find_torch, run_contest
from experiments.benchmark.output import write_benchmark
from experiments.benchmark.step_report import StepContest, step_findings
from experiments.command import make_console, run_command, say
from experiments.run_directory import check_directory, default_directory
from experiments.settings import FULL_WIDTH, at_least
from jaxresnet.data.augment import CIFAR10_MEAN, CIFAR10_STD
from jaxresnet.errors import UserError
from jaxresnet.models.resnet import MODELS, Stem

EXPERIMENT = "bench_step"

_LARGEST_CIFAR_IMAGE = 64  # pixels; larger ones get the ImageNet stem and its classes
_SGD = {"learning_rate": 0.1, "momentum": 0.9, "weight_decay": 5e-4}
_NORMALISATION = {"mean": CIFAR10_MEAN, "std": CIFAR10_STD}


@dataclass(frozen=True)
class StepSettings:
    """What is timed, and how often."""

    model: Annotated[str, tyro.conf.arg(help=f"One of {', '.join(MODELS)}.")] = "resnet18"
    image_size: int = 32
    """Pixels. Up to 64: the CIFAR stem and 10 classes; above: the ImageNet stem and 1,000."""
    batch_size: int = 128
    width: int = FULL_WIDTH
    """Channels of the first stage; 64 is the real thing, less is a thinner network."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Of convolutions and activations: bfloat16 is autocast in PyTorch."""
    rounds: int = 7
    """How often each contestant is asked, one after the other."""
    steps_per_round: int = 2
    """Steps that a contestant does when it is asked."""
    warmup: int = 3
    """Steps of each contestant before the first round."""
    plain: bool = False
    """Also time this project with the convolution gradients that JAX derives."""
    torch_python: Path | None = None
    """A Python interpreter that can import torch. None: this one."""
    out: Path | None = None
    """Where results go. None: runs/bench_step/<name made from the settings>."""

    @property
    def stem(self) -> Stem:
        return "cifar" if self.image_size <= _LARGEST_CIFAR_IMAGE else "imagenet"

    @property
    def classes(self) -> int:
        return 10 if self.stem == "cifar" else 1000

    @property
    def words(self) -> str:
        size = f"{self.image_size}x{self.image_size}"
        network = f"{self.model}, width {self.width}, {self.stem} stem"
        return f"{network}, batch {self.batch_size} of {size}, {self.dtype}"


def main(arguments: list[str]) -> None:
    """Parses the command line, times the contestants in turn, and reports.

    Raises:
      UserError: an option makes no sense, or the output directory is not usable.
      CheckFailed: this project's step failed.
    """
    settings = tyro.cli(
        StepSettings,
        prog=f"python -m experiments.{EXPERIMENT}",
        description=__doc__,
        args=arguments,
        config=(tyro.conf.FlagCreatePairsOff,),
    )
    _check(settings)
    identity = {**asdict(settings), "out": None, "torch_python": None}
    name = f"{settings.model}-{settings.image_size}-{settings.dtype}"
    directory = settings.out or default_directory(EXPERIMENT, name, identity)
    check_directory(directory, EXPERIMENT)
    console = make_console()
    torch_python = find_torch(settings.torch_python)
    say(console, f"{EXPERIMENT}: {settings.words}; results in {directory}")
    contest = run_contest(
        _contestants(settings, torch_python),
        settings.rounds,
        settings.steps_per_round,
        lambda line: say(console, line),
    )
    gflop = step_gflop(
        settings.model,
        settings.stem,
        settings.classes,
        settings.width,
        settings.image_size,
        settings.batch_size,
    )
    findings = step_findings(
        StepContest(settings.words, settings.dtype, gflop, contest, torch_python is not None)
    )
    write_benchmark(directory, EXPERIMENT, asdict(settings), contest, findings, console)


def _check(settings: StepSettings) -> None:
    if settings.model not in MODELS:
        raise UserError(f"unknown --model {settings.model!r}: choose one of {', '.join(MODELS)}")
    for name in ("image_size", "batch_size", "width", "rounds", "steps_per_round", "warmup"):
        at_least(f"--{name.replace('_', '-')}", getattr(settings, name), 1)


def _contestants(settings: StepSettings, torch_python: str | None) -> list[Contestant]:
    common = {
        **asdict(settings),
        "stem": settings.stem,
        "classes": settings.classes,
        **_SGD,
        **_NORMALISATION,
    }
    ours, theirs = "experiments.benchmark.jax_step", "experiments.benchmark.torch_step"
    contestants = [Contestant("jaxresnet", ours, {**common, "convolution": "fast"})]
    if settings.plain:
        plain = {**common, "convolution": "plain"}
        contestants.append(Contestant("jaxresnet, plain convolution", ours, plain))
    if torch_python is not None:
        contestants += [
            Contestant(name, theirs, {**common, "compile": is_compiled}, torch_python, True)
            for name, is_compiled in (("PyTorch eager", False), ("PyTorch compiled", True))
        ]
    return contestants


if __name__ == "__main__":
    jax.config.update("jax_platforms", "cpu")  # as in the contestants, before anything asks
    run_command(main)
