"""The same experiment as in PyTorch, proved step by step: each comparison and its bound."""

import importlib.util

from experiments.checks.fidelity.options import parse_fidelity_options
from experiments.harness.command import run_command
from jaxresnet.errors import UserError

EXPERIMENT = "fidelity"


def main(arguments: list[str]) -> None:
    """Parses the command line and runs the comparisons.

    Raises:
      UserError: PyTorch is not installed, or an option makes no sense.
    """
    options = parse_fidelity_options(EXPERIMENT, __doc__ or "", arguments)
    if importlib.util.find_spec("torch") is None:
        raise UserError(
            "this experiment compares with PyTorch, which is not installed: "
            "pip install torch (a CPU build will do)"
        )
    from experiments.checks.fidelity.run import run_fidelity

    run_fidelity(EXPERIMENT, options)


if __name__ == "__main__":
    run_command(main)
