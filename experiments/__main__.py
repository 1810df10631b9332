"""Lists the experiments: `python -m experiments`."""

import sys

from experiments.harness.catalogue import list_commands


def main() -> None:
    """Prints a line for each experiment, check and benchmark."""
    commands = list_commands()
    if sys.argv[1:]:
        print(
            f"error: nothing runs as 'python -m experiments {' '.join(sys.argv[1:])}'; use "
            "python -m experiments.NAME, where NAME is one of " + ", ".join(commands),
            file=sys.stderr,
        )
        sys.exit(2)
    width = max(map(len, commands))
    for name, description in commands.items():
        print(f"python -m experiments.{name:{width}}  {description}")
    print("--help shows a command's options; --quick makes a training a small one.")


if __name__ == "__main__":
    main()
