"""The options that the training experiments share, and the trainings that they ask for."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from itertools import product
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, TypeVar

from experiments.harness.published import SOURCE, published
from jaxresnet.data.loaders import LoaderOptions
from jaxresnet.options import flag, option, options_of, parse_options, replace_options, unpublished
from jaxresnet.train.checkpoint import CheckpointOptions
from jaxresnet.train.recipe import Recipe

AnySettings = TypeVar("AnySettings")
SettingsT = TypeVar("SettingsT", bound="Settings")


@dataclass(frozen=True)
class DirectoryOptions:
    """Where results go."""

    out: Path | None = unpublished(None, affects="nothing")
    """The run's directory. None: in runs, named by the experiment and what was set."""
    fresh: bool = unpublished(False, affects="nothing")
    """Delete what an earlier start of this run left, and begin anew."""


@dataclass(frozen=True)
class QuickOptions(DirectoryOptions):
    """And how much is asked for."""

    quick: bool = unpublished(False, affects="nothing")
    """Change the defaults to a small run, on built-in images if on any: two or three minutes on two
    cores at most."""


@dataclass(frozen=True)
class OutputOptions(QuickOptions):
    """And what else comes out."""

    verbose: bool = unpublished(False, affects="nothing")
    """Print what was switched on to make it fast, and why that is safe."""
    tensorboard: bool = unpublished(False, affects="nothing")
    """Write event files for TensorBoard to events/ (needs the extra tensorboard)."""


class Protocol(NamedTuple):
    """What was published, besides options: the source of images, the optimizers, and by whom."""

    source: str
    optimizers: tuple[str, ...]
    authors: str


@dataclass(frozen=True)
class Settings(Recipe):
    """A recipe, and what its result does not depend on."""

    loader: LoaderOptions = LoaderOptions()
    checkpoints: CheckpointOptions = CheckpointOptions()
    output: OutputOptions = OutputOptions()
    # Enough, on the built-in images, for all five optimizers to learn at the published rate.
    QUICK: ClassVar[dict[str, Any]] = {
        "data": "synthetic", "width": 8, "epochs": 8, "batch_size": 32,
    }  # fmt: skip
    protocol: ClassVar[Protocol] = Protocol(SOURCE, tuple(published()["c6"]["lab-c"]), "the labs")
    # Whether times are the result, so that what they depend on belongs to a run's identity.
    timed: ClassVar[bool] = False

    @property
    def recipe(self) -> Recipe:
        return Recipe(*(getattr(self, field.name) for field in fields(Recipe)))


@dataclass(frozen=True)
class SeedsOptions:
    """Of how many trainings."""

    seeds: tuple[int, ...] = option(
        (),
        affects="result",
        published=False,
        says=lambda seeds: f"seeds {', '.join(map(str, seeds))}",
        varies="seed",
    )
    """Train once with each of these seeds, and report mean and standard deviation. None: --seed."""


@dataclass(frozen=True)
class RepeatOptions:
    """How often times are taken."""

    repeats: int = unpublished(1, affects="result", at_least=1)
    """Train so many times, and report medians with the least and the greatest."""


@dataclass(frozen=True)
class TimedSettings(Settings):
    timing: RepeatOptions = RepeatOptions()
    # Times need no learning.
    QUICK: ClassVar[dict[str, Any]] = {"data": "synthetic", "width": 8, "epochs": 2}
    timed: ClassVar[bool] = True


def parse_settings(
    settings_type: type[AnySettings], experiment: str, description: str | None, arguments: list[str]
) -> AnySettings:
    """parse_options for an experiment; --quick changes the defaults to the settings' QUICK."""
    quick = getattr(settings_type, "QUICK", None) if "--quick" in arguments else None
    default = replace_options(settings_type(), **quick) if quick else None
    command = f"python -m experiments.{experiment}"
    return parse_options(settings_type, command, description or "", arguments, default)


@dataclass(frozen=True)
class Variant:
    """One training of a run: its name in the logs, its name for people, and its own settings."""

    series: str
    title: str
    settings: Settings

    def value(self, name: str) -> Any:
        """The option of that name."""
        return next(o.value for o in options_of(self.settings) if o.name == name)


def given_by(settings: Settings, name: str) -> str:
    """The flag that gives an option its values: its own, or that of a list of them."""
    lists = (o.flag for o in options_of(settings) if o.declared.varies == name and o.value)
    return next(lists, flag(name))


def make_variants(settings: Settings, **varied: Sequence[Any]) -> list[Variant]:
    """One training for every combination of what varies, by the settings or by `varied`.

    Repeats come round by round, so that a machine that slows down slows all of them alike.
    """
    options = list(options_of(settings))
    listed = {o.declared.varies: o.value for o in options if o.declared.varies and o.value}
    lists = {**listed, **varied}
    repeats = next((o.value for o in options if o.name == "repeats"), 1)
    variants = []
    for repeat, *values in product(range(repeats), *lists.values()):
        own = replace_options(settings, **dict(zip(lists, values, strict=True)))
        named = [
            o for o in options_of(own) if o.name != "optimizer" and len(lists.get(o.name, ())) > 1
        ]
        series = [own.optimizer.optimizer, *(f"{o.name}{o.value}" for o in named)]
        title = [own.optimizer.entry.title]
        title += [o.phrase or f"{o.name.replace('_', ' ')} {o.value}" for o in named]
        if repeats > 1:
            series.append(f"repeat{repeat}")
            title.append(f"repeat {repeat + 1}")
        variants.append(Variant("-".join(series), ", ".join(title), own))
    return variants
