"""The options that the experiments share, as frozen dataclasses from which --help is made."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import tyro

from jaxresnet.data.load import DataChoice
from jaxresnet.data.pipeline import Workers
from jaxresnet.errors import UserError
from jaxresnet.models.conv import Convolution
from jaxresnet.models.resnet import MODELS
from jaxresnet.optim import OptimizerOptions, get_optimizer, optimizer_names

# The learning rate that the published runs used for all five optimizers.
PUBLISHED_LEARNING_RATE = 0.1
PUBLISHED_OPTIMIZERS = ("sgd", "nesterov", "adagrad", "adadelta", "adam")
CIFAR10_TRAIN_IMAGES = 50_000
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


@dataclass(frozen=True)
class SingleOptimizerSettings(TrainingSettings):
    """The protocol."""

    optimizer: Annotated[str, tyro.conf.arg(help=f"One of {_OPTIMIZERS}.")] = "sgd"

    @property
    def names(self) -> tuple[str, ...]:
        return (self.optimizer,)


@dataclass(frozen=True)
class SeveralOptimizersSettings(TrainingSettings):
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
    checkpoint_every: int = 200
    """Steps between checkpoints; the end of each epoch is always saved."""


@dataclass(frozen=True)
class Settings:
    """All options of an experiment that trains with one optimizer."""

    data: DataSettings = DataSettings()
    model: ModelSettings = ModelSettings()
    training: SingleOptimizerSettings | SeveralOptimizersSettings = SingleOptimizerSettings()
    output: OutputSettings = OutputSettings()


@dataclass(frozen=True)
class SingleSettings(Settings):
    training: SingleOptimizerSettings = SingleOptimizerSettings()


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
    at_least("--checkpoint-every", settings.output.checkpoint_every, 1)
    if not 0 <= training.seed < 2**31:
        raise UserError(f"--seed must be at least 0 and below 2**31, got {training.seed}")
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


def optimizer_options(settings: Settings, name: str) -> OptimizerOptions:
    """The optimizer's learning rate by the protocol, momentum and weight decay."""
    training = settings.training
    rate = training.learning_rate
    if rate is None:
        published = training.protocol == "published"
        rate = PUBLISHED_LEARNING_RATE if published else get_optimizer(name).usual_learning_rate
    return OptimizerOptions(rate, training.momentum, training.weight_decay)


def follows_published_protocol(settings: Settings, train_images: int, synthetic: bool) -> bool:
    """Whether results may be set beside the published figures without more words."""
    training, published = settings.training, TrainingSettings()
    as_published = all(
        getattr(training, name) == getattr(published, name)
        for name in ("epochs", "batch_size", "momentum", "weight_decay")
    )
    rates = {optimizer_options(settings, name).learning_rate for name in training.names}
    return (
        as_published
        and rates == {PUBLISHED_LEARNING_RATE}
        and dataclasses.replace(settings.model, convolution="fast") == ModelSettings()
        and train_images == CIFAR10_TRAIN_IMAGES
        and not synthetic
    )
