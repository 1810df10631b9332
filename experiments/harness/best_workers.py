"""The best number of input workers, which C3 finds and C4 trains with."""

import json
from pathlib import Path
from statistics import median

from experiments.harness.loader_times import Times, time_loader
from experiments.harness.run import Run
from experiments.harness.run_directory import find_runs, read_identity
from experiments.harness.settings import Settings
from jaxresnet.options import options_of
from jaxresnet.train.log import write_json

BEST = "best.json"  # of a C3 run, by mode
# The options that a C3 run must have in common with a C4 run.
_SHARED = {shared.flag for shared in options_of(Settings())} - {"--epochs"}


def best_number(times: Times) -> int:
    """The smallest whose median is within one spread (least to greatest) of the fastest's."""
    fastest = min(times.values(), key=median)
    bound = median(fastest) + max(fastest) - min(fastest)
    return min(workers for workers, values in times.items() if median(values) <= bound)


def choose_best(run: Run, given: int | None, repeats: int) -> tuple[int, str]:
    """The best number of workers and where it comes from, chosen once for a run.

    The given one, else that of the newest C3 run with the same images and settings, else the one
    with which the loader alone is fastest, timed here.
    """
    path = run.directory / "choice.json"
    if path.exists():
        choice = json.loads(path.read_text(encoding="utf-8"))
        return choice["best"], choice["origin"]
    best, origin = (given, "--best") if given is not None else _best_of_c3(run.directory)
    if best is None:
        times = time_loader(run, (), repeats)
        best = best_number({workers: each[1:] for workers, each in times.items()})
        origin = "the loader alone, timed here"
    write_json(path, {"best": best, "origin": origin})
    return best, origin


def _best_of_c3(directory: Path) -> tuple[int | None, str]:
    """While training if that was timed, else of the loader alone."""
    roots = (directory.parent, Path("runs"))  # beside it, where all experiments were run together
    for run in (run for root in roots for run in find_runs(root / "c3_workers", "c3_workers")):
        if _shared_identity(run) == _shared_identity(directory) and (run / BEST).exists():
            best = json.loads((run / BEST).read_text(encoding="utf-8"))
            return best.get("training", best.get("loader")), str(run)
    return None, ""


def _shared_identity(run: Path) -> dict[str, object]:
    identity = {**(read_identity(run) or {}), "experiment": None}
    return {k: v for k, v in identity.items() if k in _SHARED or not k.startswith("--")}
