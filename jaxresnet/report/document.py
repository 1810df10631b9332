"""A report: what was asked and found, tables and plots; as Markdown, JSON and on a console."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from rich.console import Console

from jaxresnet.report.tables import Table

REPORT, REPORT_DATA = "report.md", "report.json"


@dataclass(frozen=True)
class Claim:
    """Something that was published, and what this run says to it.

    Attributes:
      published: what others found. here: what this run found.
      agrees: by a rule that is written where the claim is made.
      why: the reason, where it cannot be said or they differ.
    """

    published: str
    here: str
    agrees: Literal["yes", "no", "cannot say"]
    why: str = ""

    @property
    def verdict(self) -> str:
        return f"{self.agrees}: {self.why}" if self.why else self.agrees


@dataclass(frozen=True)
class Report:
    """
    Attributes:
      asked: the question. introduction: settings and machine.
      plots: names of files in the report's directory.
      findings: sentences computed from the figures.
      claims: the published findings, each with a verdict.
      details: tables that a summary of several reports leaves out.
      publisher: whose findings the claims are.
    """

    title: str
    introduction: str
    tables: Sequence[Table]
    plots: Sequence[str] = ()
    asked: str = ""
    findings: Sequence[str] = ()
    claims: Sequence[Claim] = ()
    details: Sequence[Table] = ()
    publisher: str = "the labs"

    def to_markdown(self) -> str:
        parts = [f"# {self.title}", self.asked, self.introduction, " ".join(self.findings)]
        parts += [table.to_markdown() for table in self.claims_tables()]
        parts += [table.to_markdown() for table in self.tables]
        parts += [f"![{Path(plot).stem}]({plot})" for plot in self.plots]
        parts += [table.to_markdown() for table in self.details]
        return "\n\n".join(part for part in parts if part) + "\n"

    def claims_tables(self) -> list[Table]:
        """One table of the claims, or none."""
        rows = [[claim.published, claim.here, claim.verdict] for claim in self.claims]
        columns = [f"{self.publisher} found", "this run found", "do they agree?"]
        return [Table("What was published, and what this run says", columns, rows)] if rows else []


def write_report(directory: Path, report: Report, console: Console | None = None) -> None:
    """Writes report.md and report.json beside the plots; prints the tables and the findings."""
    (directory / REPORT).write_text(report.to_markdown(), encoding="utf-8")
    temporary = directory / f"{REPORT_DATA}.tmp"
    temporary.write_text(json.dumps(asdict(report), indent=2) + "\n", encoding="utf-8")
    temporary.replace(directory / REPORT_DATA)
    if console is not None:
        _print(console, report.introduction)
        for table in (*report.claims_tables(), *report.tables, *report.details):
            console.print(table.to_rich())
        _print(console, *report.findings)
        console.print(
            f"report: {directory / REPORT}", highlight=False, markup=False, soft_wrap=True
        )


def read_report(directory: Path) -> Report:
    """What write_report wrote there.

    Raises:
      OSError, ValueError, TypeError, KeyError: there is none, it is damaged, or a plot is missing.
    """
    data = json.loads((directory / REPORT_DATA).read_text(encoding="utf-8"))
    for name, kind in (("tables", Table), ("details", Table), ("claims", Claim)):
        data[name] = [kind(**value) for value in data[name]]
    for plot in data["plots"]:
        (directory / plot).stat()
    return Report(**data)


def _print(console: Console, *sentences: str) -> None:
    if sentences:
        console.print(f"\n{' '.join(sentences)}", highlight=False, markup=False)
