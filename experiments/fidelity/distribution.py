"""One epoch of training, several seeds on each side: the same distribution of losses.

Each side draws its own initial weights, order, crops and flips.
"""

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean, stdev

import torch
from flax import nnx

from experiments.fidelity.comparison import Comparison
from experiments.fidelity.training import jax_train
from experiments.pytorch.resnet import TorchResNet
from experiments.pytorch.training import create_torch_optimizer, torch_epoch, torch_train
from jaxresnet.data.dataset import Split
from jaxresnet.data.pipeline import TfDataLoader
from jaxresnet.models.resnet import create_model
from jaxresnet.models.torch_weights import weights_of
from jaxresnet.optim import OptimizerOptions, create_optimizer
from jaxresnet.report.tables import Table, number
from jaxresnet.train.metrics import append_json_line, read_json_lines
from jaxresnet.train.state import split_model

OPTIMIZER = "sgd"
BATCH_SIZE = 128
# The published protocol.
OPTIONS = OptimizerOptions(learning_rate=0.1, momentum=0.9, weight_decay=5e-4)


SIDES = ("jaxresnet", "PyTorch")
_LAST_STEPS = 20


@dataclass(frozen=True)
class Run:
    """One epoch. side: one of SIDES. losses: of each batch."""

    side: str
    seed: int
    losses: list[float]


# What is compared of a run, by the words of the table.
FIGURES: dict[str, Callable[[Run], float]] = {
    "mean loss of the epoch": lambda run: fmean(run.losses),
    f"mean loss of the last {_LAST_STEPS} steps": lambda run: fmean(run.losses[-_LAST_STEPS:]),
}


def train_runs(
    split: Split, seeds: tuple[int, ...], width: int, log: Path, say: Callable[[str], None]
) -> list[Run]:
    """Trains one epoch for each side and seed; those that `log` has already are not repeated.

    log: a file of JSON lines, one for each finished run.
    """
    runs = [Run(**line) for line in read_json_lines(log)]
    for seed in seeds:
        for side, train in zip(SIDES, (_train_here, _train_in_pytorch), strict=True):
            if any((run.side, run.seed) == (side, seed) for run in runs):
                continue
            say(f"one epoch of {len(split):,} images, {side}, seed {seed}")
            runs.append(Run(side, seed, list(train(split, seed, width))))
            append_json_line(log, asdict(runs[-1]))
    return runs


def _train_here(split: Split, seed: int, width: int) -> Iterator[float]:
    model = create_model("resnet18", width=width, rngs=nnx.Rngs(seed))
    network, _, _ = split_model(model)
    loader = TfDataLoader(split, batch_size=BATCH_SIZE, seed=seed, workers=1, prefetch=2)
    optimizer = create_optimizer(OPTIMIZER, OPTIONS)
    return jax_train(network, weights_of(model), optimizer, loader.epoch(0))


def _train_in_pytorch(split: Split, seed: int, width: int) -> Iterator[float]:
    torch.manual_seed(seed)
    model = TorchResNet("resnet18", width=width)
    optimizer = create_torch_optimizer(OPTIMIZER, model.parameters(), OPTIONS)
    generator = torch.Generator().manual_seed(seed)
    return torch_train(model, optimizer, torch_epoch(split, BATCH_SIZE, generator))


def compare_runs(runs: list[Run]) -> list[Comparison]:
    """The means over the seeds against PyTorch's spread between seeds, for two figures of a run.

    The spread is the largest minus the smallest. Ours does not count: it might be wrong.
    """
    comparisons = []
    for figure, values in FIGURES.items():
        sides = [[values(run) for run in runs if run.side == side] for side in SIDES]
        difference = abs(fmean(sides[0]) - fmean(sides[1]))
        spread = max(sides[1]) - min(sides[1])
        comparisons.append(
            Comparison(f"{figure}: difference of the means over the seeds", difference, spread)
        )
    return comparisons


def run_table(runs: list[Run], images: str) -> Table:
    """A row for each run, and each side's mean and standard deviation."""
    rows = []
    for side in SIDES:
        own = [run for run in runs if run.side == side]
        for run in own:
            rows.append([side, str(run.seed), *(number(f(run), 3) for f in FIGURES.values())])
        figures = [[figure(run) for run in own] for figure in FIGURES.values()]
        rows.append([side, "mean", *(number(fmean(values), 3) for values in figures)])
        if len(own) > 1:
            rows.append([side, "std. dev.", *(number(stdev(values), 3) for values in figures)])
    return Table(f"One epoch ({images}) from several seeds", ["side", "seed", *FIGURES], rows)
