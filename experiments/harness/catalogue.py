"""Which commands there are, found by looking at their files."""

import ast
import re
from pathlib import Path

_ROOT = Path(__file__).parents[1]


def list_commands() -> dict[str, str]:
    """Module name below `experiments` -> first line of its description, without importing it.

    A command is a module, or a package's __main__, that names itself in EXPERIMENT.
    """
    commands = {}
    for file in sorted(_ROOT.rglob("*.py"), key=lambda file: (len(file.parts), file)):
        tree = ast.parse(file.read_text(encoding="utf-8"))
        assigned = [node.targets[0] for node in tree.body if isinstance(node, ast.Assign)]
        if any(isinstance(target, ast.Name) and target.id == "EXPERIMENT" for target in assigned):
            parts = file.relative_to(_ROOT).with_suffix("").parts
            name = ".".join(part for part in parts if part != "__main__")
            commands[name] = (ast.get_docstring(tree) or "").splitlines()[0]
    return commands


def list_published_experiments() -> list[str]:
    """Those that rerun what was published, in the order of their letters and numbers."""
    names = [name for name in list_commands() if re.match(r"[a-z]\d*_", name)]
    return sorted(
        names, key=lambda name: (name[0], int(re.sub(r"\D", "", name.split("_")[0]) or 0))
    )
