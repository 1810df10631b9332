"""The trainings of a run: which optimizer, seed and number of workers each one has."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

from jaxresnet.data.pipeline import Workers
from jaxresnet.optim import get_optimizer
from jaxresnet.report.tables import plural


@dataclass(frozen=True)
class Variant:
    """One training of a run. series: its name in the logs. repeat: counts from 0."""

    series: str
    label: str
    optimizer: str
    seed: int
    workers: Workers
    repeat: int


def workers_words(workers: Workers) -> str:
    """0 workers, 1 worker, auto workers."""
    return "auto workers" if workers == "auto" else plural(workers, "worker")


def make_variants(
    optimizers: Sequence[str],
    seeds: Sequence[int],
    workers: Sequence[Workers],
    repeats: int,
) -> list[Variant]:
    """Every combination, named by what differs between them.

    Repeats come round by round, so that a machine that slows down slows all of them alike.
    """
    found = []
    for repeat, optimizer, seed, count in product(range(repeats), optimizers, seeds, workers):
        names, labels = [optimizer], [get_optimizer(optimizer).label]
        if len(seeds) > 1:
            names.append(f"seed{seed}")
            labels.append(f"seed {seed}")
        if len(workers) > 1:
            names.append(f"workers{count}")
            labels.append(workers_words(count))
        if repeats > 1:
            names.append(f"repeat{repeat}")
            labels.append(f"repeat {repeat + 1}")
        series, label = "-".join(names), ", ".join(labels)
        found.append(Variant(series, label, optimizer, seed, count, repeat))
    return found
