"""Options: each declared once, as a field of a frozen dataclass, with all that it means.

    @dataclass(frozen=True)
    class TrainingOptions:
        batch_size: int = option(128, affects="result", published=True, says="batch size {}",
                                 always=True, at_least=1)
        \"\"\"Images in a training step.\"\"\"

The command line and its help, the checks, what makes two runs the same run, whether a run follows
the published protocol, and the sentence about it in a report are read from such declarations. A
group of options may have a method `check()` for what several of them must agree in. Groups are
fields of a settings dataclass; no two options of one settings class share a name.
"""

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, TypeVar

import tyro

from jaxresnet.errors import UserError

Affects = Literal["result", "time", "nothing"]
Settings = TypeVar("Settings")

_CONFIG = (tyro.conf.OmitArgPrefixes, tyro.conf.FlagCreatePairsOff)


@dataclass(frozen=True)
class Declaration:
    """What `option` was told.

    Attributes:
      affects: what changes with the option: the result; how long it takes, and nothing else; or
        neither.
      published: whether the published protocol fixes it, to its default.
      says: how a report names a value, as a format or a function; empty: reports are silent.
      always: reports name its default too.
      at_least, above, below: bounds of the value, or of each value.
      varies: the option whose values this one lists: one training with each of them.
    """

    affects: Affects
    published: bool
    says: str | Callable[[Any], str]
    always: bool = False
    at_least: float | None = None
    above: float | None = None
    below: float | None = None
    varies: str | None = None


def option(
    default: Any,
    *,
    affects: Affects,
    published: bool,
    says: str | Callable[[Any], str],
    **more: Any,
) -> Any:
    """A dataclass field that is an option; see Declaration for the arguments."""
    declaration = Declaration(affects, published, says, **more)
    return dataclasses.field(default=default, metadata={"option": declaration})


class Option(NamedTuple):
    """An option with its value. name: of the field."""

    name: str
    value: Any
    declared: Declaration

    @property
    def flag(self) -> str:
        return flag(self.name)

    @property
    def values(self) -> tuple[Any, ...]:
        return self.value if isinstance(self.value, tuple) else (self.value,)

    @property
    def words(self) -> str:
        """How a report names the value."""
        says = self.declared.says
        return says(self.value) if callable(says) else says.format(self.value)


def flag(name: str) -> str:
    """batch_size -> --batch-size."""
    return f"--{name.replace('_', '-')}"


def plural(count: int, noun: str) -> str:
    """1 epoch, 2 epochs."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def options_of(settings: Any) -> Iterator[Option]:
    """Every option of a settings dataclass, group by group."""
    for field in dataclasses.fields(settings):
        value = getattr(settings, field.name)
        if "option" in field.metadata:
            yield Option(field.name, value, field.metadata["option"])
        elif dataclasses.is_dataclass(value):
            yield from options_of(value)


def replace_options(settings: Settings, **values: Any) -> Settings:
    """The settings with these options replaced, in whichever group each of them is.

    Raises:
      KeyError: there is no such option.
    """
    changes = {}
    for field in dataclasses.fields(settings):  # pyright: ignore[reportArgumentType]
        value = getattr(settings, field.name)
        if field.name in values and "option" in field.metadata:
            changes[field.name] = values.pop(field.name)
        elif dataclasses.is_dataclass(value):
            own = {o.name for o in options_of(value)} & values.keys()
            changes[field.name] = replace_options(value, **{name: values.pop(name) for name in own})
    if values:
        raise KeyError(f"no such option: {', '.join(values)}")
    return dataclasses.replace(settings, **changes)  # pyright: ignore[reportType]


def one_of(table: Mapping[str, Any], what: str) -> Any:
    """For Annotated[str, one_of(TABLE, "model")]: the command line takes the table's names."""

    def read(arguments: list[str]) -> str:
        look_up(table, arguments[0], what)
        return arguments[0]

    return tyro.constructors.PrimitiveConstructorSpec(
        nargs=1,
        metavar="{" + ",".join(table) + "}",
        instance_from_str=read,
        is_instance=lambda value: isinstance(value, str),
        str_from_instance=lambda value: [value],
    )


Entry = TypeVar("Entry")


def look_up(table: Mapping[str, Entry], name: str, what: str) -> Entry:
    """table[name].

    Raises:
      UserError: it has no such entry; the message names those that it has.
    """
    if name not in table:
        raise UserError(f"unknown {what} {name!r}: choose one of {', '.join(table)}")
    return table[name]


def parse_options(
    settings_type: type[Settings],
    command: str,
    description: str,
    arguments: list[str],
    default: Settings | None = None,
) -> Settings:
    """Reads the settings from a command line and checks them.

    Args:
      command: as it is called, for --help.
      default: the settings of an empty command line, if not settings_type's own.

    Raises:
      UserError: a value makes no sense.
      SystemExit: with status 2 for options that do not exist or cannot be parsed, 0 for --help.
    """
    given = {} if default is None else {"default": default}
    settings = tyro.cli(
        settings_type,
        prog=command,
        description=description,
        args=arguments,
        config=_CONFIG,
        **given,
    )
    check_options(settings)
    return settings


def check_options(settings: Any) -> None:
    """Raises UserError for the first value that makes no sense."""
    by_name = {o.name: o for o in options_of(settings)}
    for one in by_name.values():
        for value in one.values:
            _check_bounds(one, value)
        if len(set(one.values)) < len(one.values):
            raise UserError(f"{one.flag} names one twice: {' '.join(map(str, one.values))}")
        if one.declared.varies is not None:
            _check_varied(settings, one, by_name[one.declared.varies])
    for field in dataclasses.fields(settings):
        check = getattr(getattr(settings, field.name), "check", None)
        if check is not None:
            check()


def _check_bounds(one: Option, value: Any) -> None:
    """Numbers alone: None and words such as auto stand for something without bounds."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return
    declared = one.declared
    bounds = {
        "at least": (declared.at_least, lambda bound: value >= bound),
        "above": (declared.above, lambda bound: value > bound),
        "below": (declared.below, lambda bound: value < bound),
    }
    set_ones = {name: pair for name, pair in bounds.items() if pair[0] is not None}
    if math.isfinite(value) and all(holds(bound) for bound, holds in set_ones.values()):
        return
    expected = [f"{name} {bound:.12g}" for name, (bound, _) in set_ones.items()]
    expected += ["finite"] if isinstance(value, float) and declared.below is None else []
    raise UserError(f"{one.flag} must be {' and '.join(expected)}, got {value}")


def _check_varied(settings: Any, lists: Option, base: Option) -> None:
    """Each listed value must be one that the option it stands for takes; both make no sense."""
    default = next(o.value for o in options_of(type(settings)()) if o.name == base.name)
    if lists.value and base.value != default:
        raise UserError(f"{base.flag} {base.value} and {lists.flag} contradict: leave one out")
    for value in lists.values:
        _check_bounds(base._replace(name=lists.name), value)


def command_line(settings: Any, leave_out: tuple[str, ...] = ()) -> list[str]:
    """The arguments that give the settings' options their values; None, False and () need none."""
    arguments: list[str] = []
    for one in options_of(settings):
        if one.name in leave_out or one.value is None or one.value is False or one.value == ():
            continue
        arguments += [one.flag, *(() if one.value is True else map(str, one.values))]
    return arguments


def changed_options(settings: Any, standard: Any, affects: tuple[Affects, ...]) -> dict[str, Any]:
    """By flag, the options with such effects that differ from those of the standard settings.

    What stands at its default is no part of a run's identity, so that a new option leaves the runs
    of yesterday valid.
    """
    return {
        one.flag: one.value
        for one, usual in zip(options_of(settings), options_of(standard), strict=True)
        if one.declared.affects in affects and one.value != usual.value
    }


def departures(settings: Any, standard: Any) -> list[str]:
    """Where the settings leave the published protocol: "--batch-size 64 instead of 128"."""
    return [
        f"{one.flag} {one.value} instead of {usual.value}"
        for one, usual in zip(options_of(settings), options_of(standard), strict=True)
        if one.declared.published and one.value != usual.value
    ]


def describe_options(settings: Any, standard: Any) -> list[str]:
    """The options as a report names them: those that are always named, and those that differ."""
    pairs = list(zip(options_of(settings), options_of(standard), strict=True))
    varied = {one.declared.varies for one, _ in pairs if one.declared.varies and one.value}
    return [
        one.words
        for one, usual in pairs
        if one.declared.says
        and one.name not in varied
        and (one.declared.always or one.value != usual.value)
    ]
