"""The options that the experiments share, as frozen dataclasses from which --help is made."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import tyro

from experiments.variants import Variant, make_variants
from jaxresnet.data.load import DataChoice
from jaxresnet.data.pipeline import Workers
from jaxresnet.errors import UserError
from jaxresnet.models.conv import Convolution
from jaxresnet.models.resnet import MODELS
from jaxresnet.optim import get_optimizer, optimizer_names

PUBLISHED_OPTIMIZERS = ("sgd", "nesterov", "adagrad", "adadelta", "adam")
FULL_WIDTH = 64

_OPTIMIZERS = ", ".join(optimizer_names())


@dataclass(frozen=True)
class SourceSettings:
    """Where images come from."""

    data: DataChoice = "auto"
    """auto: CIFAR-10 if it can be had, else built-in synthetic images. cifar10: never falls
    back. synthetic: the built-in images."""
    data_dir: Path | None = None
    """Where CIFAR-10 is: a TFDS directory, the official python or binary folder, or class
    folders of images. None: the usual TFDS directory, else a download."""


@dataclass(frozen=True)
class DataSettings(SourceSettings):
    """Images and how they are fed."""

    train_images: int | None = None
    """Train on a fixed choice of so many images. None: all of them."""
    eval_images: int | None = None
    """Evaluate on a fixed choice of so many test images. None: all of them."""
    loader: Literal["tfdata", "resident"] = "tfdata"
    """tfdata: batches are made on the host. resident: the whole set is kept on the device,
    and the step crops and flips."""
    workers: Workers = 2
    """Batches made at a time by the tfdata loader. 0: in line. auto: tf.data tunes."""
    prefetch: int = 2
    """Finished batches that the tfdata loader keeps ready besides those that its workers hold;
    none with 0 workers."""


@dataclass(frozen=True)
class ModelSettings:
    """The network."""

    model: Annotated[str, tyro.conf.arg(help=f"One of {', '.join(MODELS)}.")] = "resnet18"
    width: int = FULL_WIDTH
    """Channels of the first stage; 64 is the real thing, less is a thinner network."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Of convolutions and activations; parameters and statistics stay float32."""
    convolution: Convolution = "fast"
    """Whose gradients. fast: written for the CPU, the same but for rounding. plain: JAX's own, as
    on every other device."""
    init_from: Path | None = None
    """Start from these weights: a .pth, .pt or .safetensors file in torchvision's or
    kuangliu/pytorch-cifar's names, a run's directory (its newest checkpoint), or a directory of
    weights. None: drawn from the seed."""


@dataclass(frozen=True)
class TrainingSettings:
    """The protocol."""

    epochs: int = 5
    batch_size: int = 128
    protocol: Literal["published", "defaults"] = "published"
    """published: learning rate 0.1 for every optimizer. defaults: each one's usual rate."""
    learning_rate: float | None = None
    """Overrides the protocol's rate. None: the protocol's."""
    momentum: float = 0.9
    """For the optimizers that use it: sgd, nesterov."""
    weight_decay: float = 5e-4
    """Times the parameter, added to its gradient, for all parameters."""
    seed: int = 0
    """Of the initial weights, the order of images and their augmentation."""
    sync_each_step: bool = False
    """Wait for each step before the next batch is asked for, as without asynchronous dispatch:
    the device then stands idle while the loop waits for data. For diagnosis; on a CPU the call
    runs the step anyway."""

    @property
    def all_seeds(self) -> tuple[int, ...]:
        """One training for each."""
        return (self.seed,)


@dataclass(frozen=True)
class SingleOptimizerSettings(TrainingSettings):
    """The protocol."""

    optimizer: Annotated[str, tyro.conf.arg(help=f"One of {_OPTIMIZERS}.")] = "sgd"

    @property
    def names(self) -> tuple[str, ...]:
        return (self.optimizer,)


@dataclass(frozen=True)
class SeedsSettings(TrainingSettings):
    """The protocol."""

    seeds: tuple[int, ...] = ()
    """Train once with each of these seeds, and report mean and standard deviation. None: --seed."""

    @property
    def all_seeds(self) -> tuple[int, ...]:
        return self.seeds or (self.seed,)


@dataclass(frozen=True)
class SeveralSeedsSettings(SingleOptimizerSettings, SeedsSettings):
    """The protocol."""


@dataclass(frozen=True)
class SeveralOptimizersSettings(SeedsSettings):
    """The protocol."""

    optimizers: Annotated[
        tuple[str, ...],
        tyro.conf.arg(help=f"Which to train with, one after the other: any of {_OPTIMIZERS}."),
    ] = PUBLISHED_OPTIMIZERS

    @property
    def names(self) -> tuple[str, ...]:
        return self.optimizers


@dataclass(frozen=True)
class OutputSettings:
    """Where results go."""

    out: Path | None = None
    """The run's directory. None: runs/<experiment>/<name made from the settings>."""
    fresh: bool = False
    """Delete what an earlier start of this run left, and begin anew."""
    quick: bool = False
    """Change the defaults to a small run on built-in images, a minute or two on two cores."""
    verbose: bool = False
    """Print what was switched on to make it fast, and why that is safe."""
    tensorboard: bool = False
    """Write event files for TensorBoard to events/ (needs the extra tensorboard)."""
    checkpoint_every: int = 200
    """Steps between checkpoints; the end of each epoch is always saved."""


@dataclass(frozen=True)
class Settings:
    """All options of an experiment that trains with one optimizer."""

    data: DataSettings = DataSettings()
    model: ModelSettings = ModelSettings()
    training: SingleOptimizerSettings | SeveralOptimizersSettings = SingleOptimizerSettings()
    output: OutputSettings = OutputSettings()

    def variants(self) -> list[Variant]:
        """The trainings of the run."""
        training = self.training
        return make_variants(training.names, training.all_seeds, [self.data.workers], 1)


@dataclass(frozen=True)
class SingleSettings(Settings):
    training: SingleOptimizerSettings = SingleOptimizerSettings()


@dataclass(frozen=True)
class RepeatSettings:
    """How often times are taken."""

    repeats: int = 1
    """Train so many times, and report medians with the least and the greatest."""


@dataclass(frozen=True)
class TimedSettings(SingleSettings):
    timing: RepeatSettings = RepeatSettings()

    def variants(self) -> list[Variant]:
        return self.variants_with([self.data.workers])

    def variants_with(self, workers: Sequence[Workers]) -> list[Variant]:
        """The trainings of the run, with each of these numbers of workers."""
        training = self.training
        return make_variants(training.names, training.all_seeds, workers, self.timing.repeats)


@dataclass(frozen=True)
class SeveralSeedsOfOneSettings(Settings):
    training: SeveralSeedsSettings = SeveralSeedsSettings()


@dataclass(frozen=True)
class SeveralSettings(Settings):
    training: SeveralOptimizersSettings = SeveralOptimizersSettings()


QUICK: dict[str, dict[str, Any]] = {
    "data": {"data": "synthetic"},
    "model": {"width": 8},
    "training": {"epochs": 3},
}

SettingsType = TypeVar("SettingsType", bound=Settings)


def parse_settings(
    settings_type: type[SettingsType], experiment: str, description: str, arguments: list[str]
) -> SettingsType:
    """Reads and checks the command line; --quick changes the defaults of the other options.

    Raises:
      UserError: a value makes no sense.
      SystemExit: with status 2 for options that do not exist or cannot be parsed, 0 for --help.
    """
    default = settings_type()
    if "--quick" in arguments:
        changed = {
            group: dataclasses.replace(getattr(default, group), **values)
            for group, values in QUICK.items()
        }
        default = dataclasses.replace(default, **changed)
    settings = tyro.cli(
        settings_type,
        prog=f"python -m experiments.{experiment}",
        description=description,
        default=default,
        args=arguments,
        config=(tyro.conf.OmitArgPrefixes, tyro.conf.FlagCreatePairsOff),
    )
    check_settings(settings)
    return settings


def check_settings(settings: Settings) -> None:
    """Raises UserError for the first value that makes no sense."""
    data, model, training = settings.data, settings.model, settings.training
    if model.model not in MODELS:
        raise UserError(f"unknown --model {model.model!r}: choose one of {', '.join(MODELS)}")
    if not training.names:
        raise UserError(f"--optimizers needs at least one of {', '.join(optimizer_names())}")
    for name in training.names:
        get_optimizer(name)
    if len(set(training.names)) < len(training.names):
        raise UserError(f"--optimizers names one twice: {' '.join(training.names)}")
    at_least("--epochs", training.epochs, 1)
    at_least("--batch-size", training.batch_size, 1)
    at_least("--width", model.width, 1)
    at_least("--train-images", data.train_images, 1)
    at_least("--eval-images", data.eval_images, 1)
    at_least("--workers", 0 if data.workers == "auto" else data.workers, 0)
    at_least("--prefetch", data.prefetch, 0)
    for option, value, usual in (
        ("--workers", data.workers, DataSettings.workers),
        ("--prefetch", data.prefetch, DataSettings.prefetch),
    ):
        if data.loader == "resident" and value != usual:
            raise UserError(
                f"{option} {value} is for --loader tfdata, but --loader is resident: leave one out"
            )
    if isinstance(settings, TimedSettings):
        at_least("--repeats", settings.timing.repeats, 1)
    at_least("--checkpoint-every", settings.output.checkpoint_every, 1)
    for seed in training.all_seeds:
        if not 0 <= seed < 2**31:
            raise UserError(f"--seed must be at least 0 and below 2**31, got {seed}")
    if len(set(training.all_seeds)) < len(training.all_seeds):
        raise UserError(f"--seeds names one twice: {' '.join(map(str, training.all_seeds))}")
    if isinstance(training, SeedsSettings) and training.seeds and training.seed:
        raise UserError(f"--seed {training.seed} and --seeds contradict each other: leave one out")
    check_source(data)
    at_least("--weight-decay", training.weight_decay, 0)
    rate = training.learning_rate
    if rate is not None and not 0 < rate < float("inf"):
        raise UserError(f"--learning-rate must be above 0 and finite, got {rate}")
    if not 0 <= training.momentum < 1:
        raise UserError(f"--momentum must be at least 0 and below 1, got {training.momentum}")


def check_source(data: SourceSettings) -> None:
    """Raises UserError if the options contradict each other."""
    if data.data == "synthetic" and data.data_dir is not None:
        raise UserError(
            f"--data-dir is {data.data_dir}, but --data is synthetic (--quick makes it so): add "
            "--data cifar10, or leave out --data-dir"
        )


def at_least(option: str, value: float | None, least: int) -> None:
    """Raises UserError if a value is given that is below `least` or not finite."""
    if value is not None and not least <= value < float("inf"):
        raise UserError(f"{option} must be at least {least}, got {value}")
