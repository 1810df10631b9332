"""Which commands there are, by looking at their files."""

import ast
import re
from pathlib import Path

_ROOT = Path(__file__).parents[1]


def list_commands() -> dict[str, str]:
    """Module name below `experiments` -> first line of its description, without importing it.

    A command is a module, or a package's __main__, that names itself in EXPERIMENT.
    """
    commands = {}
    for file in sorted(_ROOT.rglob("*.py"), key=_order):
        text = file.read_text(encoding="utf-8")
        if re.search("^EXPERIMENT = ", text, re.MULTILINE):
            name = ".".join(file.relative_to(_ROOT).with_suffix("").parts)
            description = ast.get_docstring(ast.parse(text)) or ""
            commands[name.removesuffix(".__main__")] = description.partition("\n")[0]
    return commands


def _order(file: Path) -> tuple[int, list[int | str]]:
    """Sorts a module before those in packages, and c2 before c10."""
    parts = re.split(r"(\d+)", file.as_posix())
    return len(file.parts), [int(part) if part.isdigit() else part for part in parts]


def list_published_experiments() -> list[str]:
    """Those that rerun what was published, in the order of their letters and numbers."""
    return [name for name in list_commands() if re.match(r"[a-z]\d*_", name)]
