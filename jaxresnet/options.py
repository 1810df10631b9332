"""Options: each declared once, as a field of a frozen dataclass, with all that it means.

    @dataclass(frozen=True)
    class TrainingOptions:
        batch_size: int = option(128, affects="result", published=True, says="batch size {}",
                                 always=True, at_least=1)
        \"\"\"Images in a training step.\"\"\"

The command line and its help, the checks, the identity of a run, its departures from the published
protocol and the sentence about it in a report are read from such declarations. Groups of options
are fields of a settings dataclass, in which no two options share a name; a group, or the settings
as a whole, may have a method `check()` for what several of them must agree in.
"""

import dataclasses
import math
import operator
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, TypeVar

import tyro

from jaxresnet.errors import UserError

Affects = Literal["result", "time", "nothing"]
SettingsT = TypeVar("SettingsT")
Entry = TypeVar("Entry")

_HOLDS = {"at_least": operator.ge, "above": operator.gt, "below": operator.lt}


@dataclass(frozen=True)
class Declaration:
    """What an option means."""

    # What changes with it: the result; how long it takes, and nothing else; or neither.
    affects: Affects
    # Whether the published protocol fixes it to its default, or the values that are the published.
    published: bool | tuple[Any, ...]
    # How a report names a value, as a format or a function; empty: reports are silent.
    says: str | Callable[[Any], str]
    always: bool = False  # reports name its default too
    at_least: float | None = None  # this and the next two bound the value, or each value
    above: float | None = None
    below: float | None = None
    varies: str | None = None  # the option whose values this one lists: one training with each
    distinct: bool = False  # a list of values that must differ, as those of `varies` must


def option(default: Any, **declared: Any) -> Any:
    """A dataclass field that is an option; see Declaration for the arguments."""
    return dataclasses.field(default=default, metadata={"option": Declaration(**declared)})


def unpublished(default: Any, **declared: Any) -> Any:
    """An option that no published protocol fixes and no report names."""
    return option(default, published=False, says="", **declared)


class Option(NamedTuple):
    """An option, by its field's name, with its value."""

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
    def phrase(self) -> str:
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


def replace_options(settings: SettingsT, **values: Any) -> SettingsT:
    """The settings with these options replaced, in whichever group each of them is."""
    for field in dataclasses.fields(settings):  # pyright: ignore[reportArgumentType]
        group = getattr(settings, field.name)
        if dataclasses.is_dataclass(group):
            own = {o.name: values.pop(o.name) for o in options_of(group) if o.name in values}
            values[field.name] = replace_options(group, **own)
    return dataclasses.replace(settings, **values)  # pyright: ignore[reportArgumentType]


def look_up(table: Mapping[str, Entry], name: str, what: str) -> Entry:
    """table[name]; a UserError names the entries that there are."""
    if name not in table:
        raise UserError(f"unknown {what} {name!r}: choose one of {', '.join(table)}")
    return table[name]


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


def parse_options(
    settings_type: type[SettingsT],
    command: str,
    description: str,
    arguments: list[str],
    default: Any = tyro.MISSING_NONPROP,
) -> SettingsT:
    """Reads the settings from a command line and checks them.

    default: the settings of an empty command line, if not settings_type's own.

    Raises:
      UserError: a value makes no sense.
      SystemExit: with status 2 for options that do not exist or cannot be parsed, 0 for --help.
    """
    settings = tyro.cli(
        settings_type,
        prog=command,
        description=description,
        args=arguments,
        default=default,
        config=(tyro.conf.OmitArgPrefixes, tyro.conf.FlagCreatePairsOff),
    )
    check_options(settings, None if default is tyro.MISSING_NONPROP else default)
    return settings


def check_options(settings: Any, default: Any = None) -> None:
    """Raises UserError for the first value that makes no sense.

    default: the settings of an empty command line, if not the class's own.
    """
    options = {given.name: given for given in options_of(settings)}
    for given in options.values():
        listed = " ".join(map(str, given.values))
        for value in given.values:
            _check_bounds(given, value)
        must_differ = given.declared.varies or given.declared.distinct
        if must_differ and len(set(given.values)) < len(given.values):
            raise UserError(f"{given.flag} has a value twice: {listed}")
        if given.declared.varies:
            varied = options[given.declared.varies]
            usual = {o.name: o.value for o in options_of(default or type(settings)())}
            if usual[given.name] and not given.value:
                raise UserError(f"{given.flag} needs at least one value")
            if given.value and varied.value != usual[varied.name]:
                raise UserError(
                    f"{varied.flag} {varied.value} and {given.flag} {listed} contradict each "
                    "other: leave one out"
                )
            for value in given.values:
                _check_bounds(varied._replace(name=given.name), value)
    groups = (getattr(settings, field.name) for field in dataclasses.fields(settings))
    for group in (*groups, settings):
        if hasattr(group, "check"):
            group.check()


def _check_bounds(given: Option, value: Any) -> None:
    """Numbers alone: None and names such as auto stand for something without bounds."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return
    bounds = {name: getattr(given.declared, name) for name in _HOLDS}
    bounds = {name: bound for name, bound in bounds.items() if bound is not None}
    finite = isinstance(value, int) or math.isfinite(value)
    if finite and all(_HOLDS[name](value, bounds[name]) for name in bounds):
        return
    expected = [f"{name.replace('_', ' ')} {bound:.12g}" for name, bound in bounds.items()]
    if isinstance(value, float) and "below" not in bounds:
        expected.append("finite")
    raise UserError(f"{given.flag} must be {' and '.join(expected)}, got {value}")


def command_line(settings: Any, leave_out: Collection[str] = ()) -> list[str]:
    """The arguments that give the settings' options their values.

    None, (), True and False need none where they are the default.
    """
    arguments: list[str] = []
    for given, usual in zip(options_of(settings), options_of(type(settings)()), strict=True):
        value = given.value
        if given.name in leave_out or (value == usual.value and value in (None, (), True, False)):
            continue
        if isinstance(value, bool):
            arguments.append(given.flag if value else flag(f"no_{given.name}"))
        else:
            arguments += [given.flag, *map(str, given.values)]
    return arguments


def changed_options(settings: Any, standard: Any, affects: tuple[Affects, ...]) -> dict[str, Any]:
    """By flag, the options with such effects that differ from those of the standard settings.

    Defaults are no part of a run's identity, so that a new option leaves yesterday's runs valid.
    """
    return {
        given.flag: given.value
        for given, usual in zip(options_of(settings), options_of(standard), strict=True)
        if given.declared.affects in affects and given.value != usual.value
    }


def departures(settings: Any, standard: Any) -> list[str]:
    """Where the settings leave the published protocol: "--batch-size 64 instead of 128".

    So does a list of values of an option that the protocol fixes.
    """
    usual = {o.name: o for o in options_of(standard)}
    departed = []
    for given in options_of(settings):
        fixed = usual[given.declared.varies or given.name]
        published = fixed.declared.published
        accepted = published if isinstance(published, tuple) else (fixed.value,)
        values = given.values if given.declared.varies else (given.value,)
        if published and any(value not in accepted for value in values):
            values = " ".join(map(str, given.values))
            default = "its default" if fixed.value is None else fixed.value
            departed.append(f"{given.flag} {values} instead of {default}")
    return departed


def describe_options(settings: Any, standard: Any) -> list[str]:
    """The options as a report names them: those that are always named, and those that differ."""
    pairs = list(zip(options_of(settings), options_of(standard), strict=True))
    varied = {given.declared.varies for given, _ in pairs if given.declared.varies and given.value}
    return [
        given.phrase
        for given, usual in pairs
        if given.declared.says
        and given.name not in varied
        and (given.declared.always or given.value != usual.value)
    ]
