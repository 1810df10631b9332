"""Lists the experiments: `python -m experiments`."""

import ast
import sys
from importlib import resources


def list_experiments() -> dict[str, str]:
    """Module name -> first line of its description, read without importing the modules."""
    found = {}
    for entry in sorted(resources.files("experiments").iterdir(), key=lambda entry: entry.name):
        file = entry / "__main__.py" if entry.is_dir() else entry
        if not (file.is_file() and file.name.endswith(".py")):
            continue
        tree = ast.parse(file.read_text(encoding="utf-8"))
        names = [node.targets[0] for node in tree.body if isinstance(node, ast.Assign)]
        if any(isinstance(name, ast.Name) and name.id == "EXPERIMENT" for name in names):
            found[entry.name.removesuffix(".py")] = (ast.get_docstring(tree) or "").splitlines()[0]
    return found


def main() -> None:
    """Prints a line for each experiment."""
    experiments = list_experiments()
    if sys.argv[1:]:
        print(
            f"error: nothing runs as 'python -m experiments {' '.join(sys.argv[1:])}'; use "
            "python -m experiments.NAME, where NAME is one of " + ", ".join(experiments),
            file=sys.stderr,
        )
        sys.exit(2)
    width = max(len(name) for name in experiments)
    for name, description in experiments.items():
        print(f"python -m experiments.{name:{width}}  {description}")
    print("--help shows an experiment's options; --quick makes a training a small one.")


if __name__ == "__main__":
    main()
