"""report.md: paragraphs, tables and plots in order, also shown on the console."""

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from jaxresnet.report.tables import Table


def write_report(
    directory: Path,
    title: str,
    introduction: str,
    tables: Sequence[Table],
    plots: Sequence[str] = (),
    console: Console | None = None,
) -> None:
    """Writes report.md with links to `plots`, files in the same directory; prints the tables."""
    parts = [f"# {title}", introduction]
    parts += [table.to_markdown() for table in tables]
    parts += [f"![{Path(plot).stem}]({plot})" for plot in plots]
    (directory / "report.md").write_text("\n\n".join(parts) + "\n", encoding="utf-8")
    if console is not None:
        console.print(f"\n{introduction}", highlight=False, markup=False)
        for table in tables:
            console.print(table.to_rich())
