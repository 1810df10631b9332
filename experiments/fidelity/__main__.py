"""The same experiment as in PyTorch, proved step by step: each comparison and its bound."""

import importlib.util

from experiments.command import run_command
from jaxresnet.errors import UserError

EXPERIMENT = "fidelity"


def main(arguments: list[str]) -> None:
    """Parses the command line and runs the comparisons.

    Raises:
      UserError: PyTorch is not installed, or an option makes no sense.
    """
    from experiments.fidelity.settings import parse_fidelity_settings

    settings = parse_fidelity_settings(__doc__ or "", arguments)
    if importlib.util.find_spec("torch") is None:
        raise UserError(
            "this experiment compares with PyTorch, which is not installed: "
            "pip install torch (a CPU build will do)"
        )
    from experiments.fidelity.run import run_fidelity

    run_fidelity(settings)


if __name__ == "__main__":
    run_command(main)
