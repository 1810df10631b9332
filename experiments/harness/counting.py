"""What the experiments share that count, and train nothing."""

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import jax

from experiments.harness.command import make_console
from experiments.harness.environment import describe_environment
from experiments.harness.run_directory import finish_run, open_run_directory
from experiments.harness.settings import DirectoryOptions, parse_settings
from jaxresnet.optim import OPTIMIZERS, OptimizerOptions
from jaxresnet.report.document import Report, write_report
from jaxresnet.train.state import Arrays


def run_counting(
    experiment: str,
    description: str | None,
    settings_type: type[Any],
    count: Callable[[], tuple[dict[str, Any], Report]],
    arguments: list[str],
) -> None:
    """Parses the command line, counts, and reports.

    settings_type: has a group `output` of DirectoryOptions, with a directory by default.
    count: gives what summary.json holds, and the report.
    """
    settings = parse_settings(settings_type, experiment, description, arguments)
    output: DirectoryOptions = settings.output
    assert output.out is not None
    identity, environment = {"experiment": experiment}, describe_environment()
    with open_run_directory(
        output.out, identity, asdict(settings), environment, fresh=output.fresh
    ):
        counts, report = count()
        write_report(output.out, report, make_console())
        finish_run(output.out, counts)


def count_values(function: Callable[..., Any], *arguments: Any) -> int:
    """In all arrays that the function gives, by their shapes alone."""
    shapes = jax.eval_shape(function, *arguments)
    return sum(leaf.size for leaf in jax.tree.leaves(shapes))


def count_optimizer_state(params: Arrays) -> dict[str, int]:
    """Values that each of OPTIMIZERS keeps besides the parameters, by its name; 4 bytes each."""
    optimizers = {name: OptimizerOptions(optimizer=name).create(1, 1) for name in OPTIMIZERS}
    return {name: count_values(each.init, params) for name, each in optimizers.items()}
