"""The same experiment as in PyTorch, proved step by step: each comparison and its bound."""

import importlib.util

from experiments.checks.fidelity.options import QUICK, FidelityOptions
from experiments.harness.command import run_command
from jaxresnet.errors import UserError
from jaxresnet.options import parse_options

EXPERIMENT = "fidelity"


def main(arguments: list[str]) -> None:
    """Parses the command line and runs the comparisons.

    Raises:
      UserError: PyTorch is not installed, or an option makes no sense.
    """
    default = QUICK if "--quick" in arguments else FidelityOptions()
    command = "python -m experiments.checks.fidelity"
    options = parse_options(FidelityOptions, command, __doc__ or "", arguments, default)
    if importlib.util.find_spec("torch") is None:
        raise UserError(
            "this experiment compares with PyTorch, which is not installed: "
            "pip install torch (a CPU build will do)"
        )
    from experiments.checks.fidelity.run import run_fidelity

    run_fidelity(EXPERIMENT, options)


if __name__ == "__main__":
    run_command(main)
