"""Which commands there are, by looking at their files, and whose experiments they rerun."""

import ast
import re
from pathlib import Path
from typing import NamedTuple

_ROOT = Path(__file__).parents[1]


class Origin(NamedTuple):
    """Who published experiments, which become a part of the full report.

    Attributes:
      letters: with which the experiments' names begin.
      publisher: as sentences and tables call them.
      title, introduction: of the part.
    """

    letters: str
    publisher: str
    title: str
    introduction: str


ORIGINS: dict[str, Origin] = {
    "labs": Origin(
        "cq",
        "the labs",
        "ResNet-18 on CIFAR-10",
        "Three course reports on high-performance machine learning (lab-a, lab-b, lab-c) trained "
        "ResNet-18 on CIFAR-10 in PyTorch, and measured where the time of an epoch goes, what "
        "input workers and optimizers change, and what becomes of it without batch normalisation.",
    ),
    "talk": Origin(
        "r",
        "the talk",
        "ResNet-152 on ImageNet",
        "A talk, Training ResNet-152 on ImageNet (V. Pais, 2023), built the network in PyTorch, "
        "counted its parameters, and measured memory and time of an epoch on an NVIDIA RTX A6000.",
    ),
}


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


def origin_of(experiment: str) -> str:
    """Whose a published experiment is, by the names of ORIGINS."""
    return next(name for name, origin in ORIGINS.items() if experiment[0] in origin.letters)
