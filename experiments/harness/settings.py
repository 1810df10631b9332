"""The options that the training experiments share, and the trainings that they ask for."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from itertools import product
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from jaxresnet.data.loaders import LoaderOptions
from jaxresnet.options import Option, option, options_of, parse_options, replace_options
from jaxresnet.train.checkpoint import CheckpointOptions
from jaxresnet.train.recipe import Recipe

SettingsType = TypeVar("SettingsType", bound="Settings")

# What --quick makes of the defaults.
QUICK: dict[str, Any] = {"data": "synthetic", "width": 8, "epochs": 3}


@dataclass(frozen=True)
class OutputOptions:
    """Where results go."""

    out: Path | None = option(None, affects="nothing", published=False, says="")
    """The run's directory. None: runs/<experiment>/<name made from the settings>."""
    fresh: bool = option(False, affects="nothing", published=False, says="")
    """Delete what an earlier start of this run left, and begin anew."""
    quick: bool = option(False, affects="nothing", published=False, says="")
    """Change the defaults to a small run on built-in images, two or three minutes on two cores."""
    verbose: bool = option(False, affects="nothing", published=False, says="")
    """Print what was switched on to make it fast, and why that is safe."""
    tensorboard: bool = option(False, affects="nothing", published=False, says="")
    """Write event files for TensorBoard to events/ (needs the extra tensorboard)."""


@dataclass(frozen=True)
class Settings(Recipe):
    """A recipe, and what its result does not depend on.

    timed: whether times are the result, so that what they depend on belongs to a run's identity.
    """

    loader: LoaderOptions = LoaderOptions()
    checkpoints: CheckpointOptions = CheckpointOptions()
    output: OutputOptions = OutputOptions()
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

    repeats: int = option(1, affects="result", published=False, says="", at_least=1)
    """Train so many times, and report medians with the least and the greatest."""


@dataclass(frozen=True)
class TimedSettings(Settings):
    timing: RepeatOptions = RepeatOptions()
    timed: ClassVar[bool] = True


def parse_settings(
    settings_type: type[SettingsType], experiment: str, description: str, arguments: list[str]
) -> SettingsType:
    """Reads and checks the command line; --quick changes the defaults of the other options.

    Raises:
      UserError, SystemExit: see parse_options.
    """
    default = settings_type()
    if "--quick" in arguments:
        default = replace_options(default, **QUICK)
    return parse_options(
        settings_type, f"python -m experiments.{experiment}", description, arguments, default
    )


@dataclass(frozen=True)
class Variant:
    """One training of a run.

    Attributes:
      series: its name in the logs. title: its name for people.
      settings: the run's, with what this training has of its own.
      repeat: counts from 0.
    """

    series: str
    title: str
    settings: Settings
    repeat: int

    def value(self, name: str) -> Any:
        """The option of that name."""
        return _by_name(self.settings)[name].value


def make_variants(settings: Settings, **varied: Sequence[Any]) -> list[Variant]:
    """One training for every combination of what varies, named by it.

    Repeats come round by round, so that a machine that slows down slows all of them alike.

    Args:
      varied: values by the name of an option, beside those that the settings list (see `varies`).
    """
    options = _by_name(settings)
    listed = {o.declared.varies: o.value for o in options.values() if o.declared.varies and o.value}
    lists = {**listed, **varied}
    repeats = options["repeats"].value if "repeats" in options else 1
    variants = []
    for repeat, *values in product(range(repeats), *lists.values()):
        own = replace_options(settings, **dict(zip(lists, values, strict=True)))
        named = [
            o for o in options_of(own) if o.name != "optimizer" and len(lists.get(o.name, ())) > 1
        ]
        series = [own.optimizer.optimizer, *(f"{o.name}{o.value}" for o in named)]
        title = [own.optimizer.entry.title, *(o.words for o in named)]
        if repeats > 1:
            series.append(f"repeat{repeat}")
            title.append(f"repeat {repeat + 1}")
        variants.append(Variant("-".join(series), ", ".join(title), own, repeat))
    return variants


def _by_name(settings: Settings) -> dict[str, Option]:
    return {o.name: o for o in options_of(settings)}
