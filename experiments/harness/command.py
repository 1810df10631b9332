"""From a shell to a command's main function and back to an exit status."""

import signal
import sys
import warnings
from collections.abc import Callable

from rich.console import Console

from jaxresnet import platform
from jaxresnet.data.cache import cache_directory
from jaxresnet.errors import CheckFailed, TrainingFailed, UserError
from jaxresnet.train.interrupt import Stopped


def make_console() -> Console:
    """Standard output; wide enough for the tables where it is not a terminal."""
    return Console() if sys.stdout.isatty() else Console(width=100)


def say(console: Console, line: str) -> None:
    """Prints a line as it is, not folded."""
    console.print(line, highlight=False, markup=False, soft_wrap=True)


def run_command(main: Callable[[list[str]], None], *, computes: bool = True) -> None:
    """Runs a command's main on the command line's arguments and exits with its status.

    computes: in this process; else its device is left to others.

    0: done. 1: the training diverged, a check failed, or a file could not be written. 2: bad input.
    128 + n: stopped by signal n.
    """
    platform.prepare_process()
    if computes:
        platform.cache_compiled_programs(cache_directory() / "compiled")
    errors = Console(stderr=True)

    def print_error(message: str, style: str | None = None) -> None:
        errors.print(message, style=style, markup=False, soft_wrap=True)

    warnings.showwarning = lambda message, *_: print_error(f"warning: {message}", "yellow")
    try:
        main(sys.argv[1:])
    except (UserError, TrainingFailed, CheckFailed, OSError) as error:  # OSError: a full disk, say
        print_error(f"error: {error}", "red")
        sys.exit(2 if isinstance(error, UserError) else 1)
    except KeyboardInterrupt:
        print_error("interrupted")
        sys.exit(128 + signal.SIGINT)
    except Stopped as stopped:
        print_error(f"{stopped}; the same command, without --fresh, continues from here")
        sys.exit(stopped.exit_code)
