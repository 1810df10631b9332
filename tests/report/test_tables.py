"""How figures are written, and tables filled from their columns."""

from collections.abc import Sequence
from typing import NamedTuple

from rich.console import Console

from jaxresnet.report.tables import (
    Column,
    Table,
    make_table,
    mean_and_deviation,
    number,
    signed,
)


class Row(NamedTuple):
    name: str
    values: Sequence[float]
    total: float | None = None


COLUMNS: list[Column[Row]] = [
    Column("", lambda row: row.name),
    Column("top-1", lambda row: row.values, digits=1, scale=100),
    Column("total", lambda row: row.total, digits=0),
]


def test_figures_are_rounded_and_missing_ones_are_dashes():
    assert number(1234.567) == "1,234.57"
    assert number(28_000_000_000.0, 3) == "2.8e+10"
    assert [signed(value) for value in (1234.504, -0.3, -0.001)] == ["+1,234.50", "-0.30", "+0.00"]
    assert number(None) == "-"


def test_several_values_show_their_spread():
    rows = [Row("one", [0.5], 3.0), Row("three", [0.1, 0.2, 0.6]), Row("none", [])]
    assert make_table("", COLUMNS, rows).rows == [
        ["one", "50.0", "3"],
        ["three", "20.0 (10.0-60.0)", "-"],
        ["none", "-", "-"],
    ]
    (row,) = make_table("", COLUMNS, [Row("a", [0.1, 0.3])], spread=mean_and_deviation).rows
    assert row[1] == "20.0 ± 14.1"


def test_markdown_aligns_figures_to_the_right():
    table = Table("Times", ["epoch", "in\ns"], [["1", "2.0"]], "A note.")
    assert table.to_markdown() == (
        "### Times\n\n| epoch | in s |\n| :-- | --: |\n| 1 | 2.0 |\n\nA note.\n"
    )


def test_brackets_are_shown_in_a_terminal():
    table = Table(
        "[out, in]", ["layer", "shape"], [["first", "[height, width]"]], "[bold] is text."
    )
    console = Console(width=60)
    with console.capture() as capture:
        console.print(table.to_rich())
    for text in ("[out, in]", "[height, width]", "[bold] is text."):
        assert text in capture.get()
