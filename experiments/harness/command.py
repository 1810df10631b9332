"""From a shell to an experiment's main function and back to an exit status."""

import signal
import sys
import warnings
from collections.abc import Callable

from rich.console import Console

from jaxresnet import platform
from jaxresnet.data.cache import cache_directory
from jaxresnet.errors import CheckFailed, TrainingFailed, UserError
from jaxresnet.train.interrupt import Stopped

_PLAIN_WIDTH = 100


def make_console() -> Console:
    """Standard output; wide enough for the tables where it is not a terminal."""
    return Console() if sys.stdout.isatty() else Console(width=_PLAIN_WIDTH)


def say(console: Console, line: str) -> None:
    """Prints a line as it is, not folded."""
    console.print(line, highlight=False, markup=False, soft_wrap=True)


def run_command(main: Callable[[list[str]], None], *, computes: bool = True) -> None:
    """Runs an experiment's main on the command line's arguments and exits with its status.

    computes: in this process; else its device is left to others.

    0: done. 1: the training diverged, a check failed, or a file could not be written. 2: bad input.
    128 + n: stopped by signal n.
    """
    platform.prepare_process()
    if computes:
        platform.cache_compiled_programs(cache_directory() / "compiled")
    error_console = Console(stderr=True)

    def show_warning(message, *_args, **_kwargs) -> None:
        error_console.print(f"warning: {message}", style="yellow", markup=False, soft_wrap=True)

    warnings.showwarning = show_warning
    try:
        main(sys.argv[1:])
    except UserError as error:
        error_console.print(f"error: {error}", style="red", markup=False, soft_wrap=True)
        sys.exit(2)
    except (TrainingFailed, CheckFailed, OSError) as error:  # OSError: the disk is full, say
        error_console.print(f"error: {error}", style="red", markup=False, soft_wrap=True)
        sys.exit(1)
    except KeyboardInterrupt:
        error_console.print("interrupted")
        sys.exit(128 + signal.SIGINT)
    except Stopped as stopped:
        error_console.print(
            f"{stopped}; the same command, without --fresh, goes on from here", soft_wrap=True
        )
        sys.exit(stopped.exit_code)
