"""Tables for the terminal and for report.md, filled from descriptions of their columns."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import mean, median, stdev
from typing import Generic, TypeVar

import rich.box
from rich.markup import escape
from rich.table import Table as RichTable

MISSING = "-"
Show = Callable[[float], str]
Row = TypeVar("Row")
Value = str | float | Sequence[float] | None


def number(value: float | None, digits: int = 2) -> str:
    """1234.5 -> 1,234.50, 12345678 -> 1.2e+07; a dash for None."""
    if value is None:
        return MISSING
    return f"{value:,.{digits}f}" if abs(value) < 100_000 else f"{value:.1e}"


def signed(value: float) -> str:
    """+1.20, -0.31; +0.00 for what rounds to nothing."""
    return f"{round(value, 2) + 0.0:+,.2f}"


def mean_and_deviation(values: Sequence[float], show: Show) -> str:
    """1.386 ± 0.012: the mean and the sample standard deviation; of one value, the value."""
    if len(values) == 1:
        return show(values[0])
    return f"{show(mean(values))} ± {show(stdev(values))}"


def median_and_range(values: Sequence[float], show: Show) -> str:
    """12.3 (11.9-13.0): the median, the least and the greatest; of one value, the value."""
    if len(values) == 1:
        return show(values[0])
    return f"{show(median(values))} ({show(min(values))}-{show(max(values))})"


@dataclass(frozen=True)
class Column(Generic[Row]):
    """What a column shows of a row.

    Attributes:
      header: a line break in it keeps the column narrow in the terminal.
      value: the row's text, number, or numbers of which the table shows the spread; None: a dash.
      digits, scale: numbers are multiplied by scale and rounded to so many digits.
    """

    header: str
    value: Callable[[Row], Value]
    digits: int = 2
    scale: float = 1

    def cell(self, row: Row, spread: Callable[[Sequence[float], Show], str]) -> str:
        def show(value: float) -> str:
            return number(self.scale * value, self.digits)

        value = self.value(row)
        if value is None or isinstance(value, str):
            return MISSING if value is None else value
        if isinstance(value, Sequence):
            return spread(value, show) if value else MISSING
        return show(value)


@dataclass(frozen=True)
class Table:
    """A title, named columns, and rows of text: a name first, then figures."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""

    def to_markdown(self) -> str:
        lines = [
            f"### {self.title}",
            "",
            _markdown_row(
                [column.replace("-\n", "").replace("\n", " ") for column in self.columns]
            ),
            _markdown_row([":--"] + ["--:"] * (len(self.columns) - 1)),
            *(_markdown_row(row) for row in self.rows),
        ]
        if self.note:
            lines += ["", self.note]
        return "\n".join(lines) + "\n"

    def to_rich(self) -> RichTable:
        table = RichTable(
            title=escape(self.title),
            caption=escape(self.note) or None,
            box=rich.box.SIMPLE_HEAD,
            title_justify="left",
            caption_justify="left",
            padding=(0, 1, 0, 0),
            pad_edge=False,
        )
        for index, column in enumerate(self.columns):
            table.add_column(column, justify="right" if index else "left", overflow="fold")
        for row in self.rows:
            table.add_row(*map(escape, row))
        return table


def make_table(
    title: str,
    columns: Sequence[Column[Row]],
    rows: Sequence[Row],
    note: str = "",
    spread: Callable[[Sequence[float], Show], str] = median_and_range,
) -> Table:
    """A row of cells for each row. spread: how several numbers are shown in one cell."""
    cells = [[column.cell(row, spread) for column in columns] for row in rows]
    return Table(title, [column.header for column in columns], cells, note)


def _markdown_row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.strip() for cell in cells) + " |"
