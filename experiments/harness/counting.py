"""What the experiments share that count, and train nothing."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import jax

from experiments.harness.command import make_console
from experiments.harness.environment import describe_environment
from experiments.harness.run_directory import finish_run, open_run_directory
from experiments.harness.settings import DirectoryOptions, parse_settings
from jaxresnet.optim import OPTIMIZERS, OptimizerOptions
from jaxresnet.report.document import Report, write_report
from jaxresnet.train.state import Arrays


@dataclass(frozen=True)
class CountingSettings:
    """Where results go."""

    output: DirectoryOptions = DirectoryOptions()


def run_counting(
    experiment: str,
    description: str | None,
    count: Callable[[], tuple[dict[str, Any], Report]],
    arguments: list[str],
) -> None:
    """Parses the command line, counts, and reports.

    count: gives what summary.json holds, and the report.
    """
    settings = parse_settings(CountingSettings, experiment, description, arguments)
    directory = settings.output.out or Path("runs") / experiment
    identity, environment = {"experiment": experiment}, describe_environment()
    with open_run_directory(
        directory, identity, asdict(settings), environment, fresh=settings.output.fresh
    ):
        counts, report = count()
        write_report(directory, report, make_console())
        finish_run(directory, counts)


def count_values(function: Callable[..., Any], *arguments: Any) -> int:
    """In all arrays that the function gives, by their shapes alone."""
    shapes = jax.eval_shape(function, *arguments)
    return sum(leaf.size for leaf in jax.tree.leaves(shapes))


def count_optimizer_state(params: Arrays) -> dict[str, int]:
    """Values that each of OPTIMIZERS keeps besides the parameters, by its name; 4 bytes each."""
    optimizers = {name: OptimizerOptions(optimizer=name).create(1, 1) for name in OPTIMIZERS}
    return {name: count_values(each.init, params) for name, each in optimizers.items()}
