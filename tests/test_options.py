"""Options: all that is read from a declaration."""

import dataclasses
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import pytest

from experiments.harness.catalogue import list_commands
from jaxresnet.errors import UserError
from jaxresnet.options import (
    Declaration,
    changed_options,
    check_options,
    command_line,
    departures,
    describe_options,
    one_of,
    option,
    options_of,
    parse_options,
    replace_options,
    unpublished,
)

COLOURS = {"red": 1, "blue": 2}


@dataclass(frozen=True)
class Paint:
    """What is painted."""

    colour: Annotated[str, one_of(COLOURS, "colour")] = option(
        "red", affects="result", published=True, says="{}", always=True
    )
    coats: int = option(2, affects="result", published=True, says="{} coats", at_least=1, below=9)
    """How many."""
    price: float | None = option(None, affects="nothing", published=(None, 5.0), says="", above=0)
    speed: int = option(1, affects="time", published=False, says="speed {}")
    mix: tuple[int, int] = option((3, 3), affects="result", published=True, says="")
    dry: bool = unpublished(True, affects="time")
    brushes: tuple[str, ...] = unpublished((), affects="nothing", distinct=True)


@dataclass(frozen=True)
class Several:
    colours: tuple[Annotated[str, one_of(COLOURS, "colour")], ...] = option(
        (), affects="result", published=False, says=lambda names: "/".join(names), varies="colour"
    )
    many_coats: tuple[int, ...] = option(
        (), affects="result", published=False, says="", varies="coats"
    )


@dataclass(frozen=True)
class Job:
    paint: Paint = Paint()
    several: Several = Several()


def parse(*arguments: str) -> Job:
    return parse_options(Job, "paint", "Paints.", list(arguments))


def test_values_come_from_the_command_line_and_back():
    job = parse("--colour", "blue", "--price", "3", "--many-coats", "1", "2")
    assert job == Job(Paint("blue", price=3.0), Several((), (1, 2)))
    assert parse(*command_line(Job(Paint("blue", price=2.5)))) == Job(Paint("blue", price=2.5))
    assert command_line(Job(), ("coats", "speed", "mix", "dry")) == ["--colour", "red"]
    for job in (Job(), Job(Paint(dry=False, mix=(1, 1))), Job(Paint(price=1.0, brushes=("a",)))):
        assert parse(*command_line(job)) == job


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--colour green", "unknown colour 'green': choose one of red, blue"),
        ("--coats 0", "--coats must be at least 1 and below 9, got 0"),
        ("--coats 9", "--coats must be at least 1 and below 9, got 9"),
        ("--price 0", "--price must be above 0 and finite, got 0.0"),
        ("--price nan", "--price must be above 0 and finite, got nan"),
        ("--price inf", "--price must be above 0 and finite, got inf"),
        ("--brushes a a", "--brushes has a value twice: a a"),
        (f"--coats 1{'0' * 400}", "--coats must be at least 1 and below 9, got 10"),
        ("--colours red red", "--colours has a value twice: red red"),
        (
            "--colours red --colour blue",
            "--colour blue and --colours red contradict each other: leave one out",
        ),
        ("--many-coats 3 10", "--many-coats must be at least 1 and below 9, got 10"),
    ],
)
def test_what_makes_no_sense_is_refused(arguments, message):
    with pytest.raises(UserError, match=message):
        parse(*arguments.split())


def test_help_shows_names_texts_and_choices(capsys):
    with pytest.raises(SystemExit) as ended:
        parse("--help")
    assert ended.value.code == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "--colour {red,blue} (default: red)" in text
    assert "How many. (default: 2)" in text


def test_only_what_differs_belongs_to_the_identity():
    assert changed_options(Job(), Job(), ("result", "time")) == {}
    job = replace_options(Job(), coats=3, price=1.0, speed=2)
    assert changed_options(job, Job(), ("result",)) == {"--coats": 3}
    assert changed_options(job, Job(), ("result", "time")) == {"--coats": 3, "--speed": 2}


def test_departures_and_descriptions():
    job = replace_options(Job(), coats=3, speed=2)
    assert departures(job, Job()) == ["--coats 3 instead of 2"]
    assert departures(replace_options(Job(), mix=(1, 2)), Job()) == ["--mix 1 2 instead of (3, 3)"]
    several = Several(many_coats=(2, 3))
    assert departures(Job(several=several), Job()) == ["--many-coats 2 3 instead of 2"]
    assert departures(Job(several=Several(many_coats=(2,))), Job()) == []
    assert departures(replace_options(Job(), price=5.0), Job()) == []
    assert departures(replace_options(Job(), price=4.0), Job()) == [
        "--price 4.0 instead of its default"
    ]
    assert describe_options(Job(), Job()) == ["red"]
    assert describe_options(job, Job()) == ["red", "3 coats", "speed 2"]
    assert describe_options(Job(several=Several(("red", "blue"))), Job()) == ["red/blue"]


def test_an_option_that_is_not_there_cannot_be_replaced():
    with pytest.raises(TypeError, match="size"):
        replace_options(Job(), size=3)


def test_groups_check_what_they_must_agree_in():
    @dataclass(frozen=True)
    class Checked(Paint):
        def check(self) -> None:
            raise UserError(f"no {self.colour} today")

    with pytest.raises(UserError, match="no red today"):
        check_options(Job(paint=Checked()))

    @dataclass(frozen=True)
    class CheckedJob(Job):
        def check(self) -> None:
            raise UserError(f"no {self.paint.colour} for {self.several.colours}")

    with pytest.raises(UserError, match=r"no red for \(\)"):
        check_options(CheckedJob())


def declared_options(settings: type) -> dict[str, Any]:
    """The fields of a settings class and its groups, by name, with what was declared of them."""
    types, declared = get_type_hints(settings), {}
    for field in dataclasses.fields(settings):
        if dataclasses.is_dataclass(types[field.name]):
            inner = declared_options(types[field.name])
            assert not inner.keys() & declared.keys(), "two options of one name"
            declared |= inner
        else:
            declared[field.name] = field.metadata.get("option")
    return declared


@pytest.mark.parametrize("command", list_commands())
def test_every_option_of_every_command_says_what_it_means(command, monkeypatch):
    name = f"experiments.{command}"
    if (Path("experiments") / command.replace(".", "/")).is_dir():
        name += ".__main__"

    class Parsing(Exception):
        pass

    def parse(settings_type: type, **_: Any) -> None:
        raise Parsing(settings_type)

    monkeypatch.setattr("tyro.cli", parse)
    with pytest.raises(Parsing) as parsing:
        import_module(name).main([])
    declared = declared_options(parsing.value.args[0])
    assert declared
    for option_name, declaration in declared.items():
        assert isinstance(declaration, Declaration), f"{option_name} is not declared by option()"


def test_options_come_in_the_order_of_their_groups():
    assert [o.name for o in options_of(Job())][:3] == ["colour", "coats", "price"]
