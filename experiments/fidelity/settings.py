"""The options of the fidelity experiment."""

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

import tyro

from experiments.settings import FULL_WIDTH, SourceSettings, at_least, check_source
from jaxresnet.errors import UserError

Part = Literal[
    "layers", "networks", "optimizers", "data", "initialisation", "training", "distribution"
]
Network = Literal["resnet18", "resnet34", "resnet50", "resnet152"]


@dataclass(frozen=True)
class CompareSettings:
    """What is compared, and at what size."""

    parts: tuple[Part, ...] = get_args(Part)
    """Which parts to run; the others keep what an earlier start found."""
    networks: tuple[Network, ...] = get_args(Network)
    """Of the part networks: each in all its variants."""
    width: int = FULL_WIDTH
    """Channels of the first stage of the networks."""
    steps: int = 30
    """Of the part training: steps with each optimizer."""
    batch_size: int = 64
    """Of the part training."""
    train_images: int = 10_000
    """Of the part distribution: a fixed choice of so many images, an epoch for each seed."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Of the part distribution."""


@dataclass(frozen=True)
class ResultSettings:
    """Where results go."""

    out: Path | None = None
    """The run's directory. None: runs/fidelity/<name made from the settings>."""
    fresh: bool = False
    """Delete what an earlier start of this run left, and begin anew."""
    quick: bool = False
    """Change the defaults to thin networks, fewer of them, and built-in images."""


@dataclass(frozen=True)
class FidelitySettings:
    """All options of the experiment."""

    data: SourceSettings = field(default_factory=SourceSettings)
    compare: CompareSettings = field(default_factory=CompareSettings)
    output: ResultSettings = field(default_factory=ResultSettings)


_QUICK = FidelitySettings(
    data=SourceSettings(data="synthetic"),
    compare=CompareSettings(networks=("resnet18", "resnet50"), width=8, train_images=2_000),
)


def parse_fidelity_settings(description: str, arguments: list[str]) -> FidelitySettings:
    """Reads and checks the command line.

    Raises:
      UserError: a value makes no sense.
    """
    settings = tyro.cli(
        FidelitySettings,
        prog="python -m experiments.fidelity",
        description=description,
        default=_QUICK if "--quick" in arguments else FidelitySettings(),
        args=arguments,
        config=(tyro.conf.OmitArgPrefixes, tyro.conf.FlagCreatePairsOff),
    )
    compare = settings.compare
    check_source(settings.data)
    for name, value in dataclasses.asdict(compare).items():
        option = f"--{name.replace('_', '-')}"
        if isinstance(value, int):
            at_least(option, value, 1)
        elif not value:
            raise UserError(f"{option} needs at least one value")
        elif len(set(value)) < len(value):
            raise UserError(f"{option} names one twice: {' '.join(map(str, value))}")
    if min(compare.seeds) < 0:
        raise UserError(f"--seeds must be at least 0, got {min(compare.seeds)}")
    if "distribution" in compare.parts and len(compare.seeds) < 2:
        raise UserError("--seeds needs at least two, to see how much they differ")
    wanted = compare.batch_size * compare.steps
    if "training" in compare.parts and compare.train_images < wanted:
        raise UserError(
            f"--steps {compare.steps} of --batch-size {compare.batch_size} need "
            f"{compare.batch_size * compare.steps:,} images, but --train-images is "
            f"{compare.train_images:,}"
        )
    return settings
