"""Training for an epoch from many seeds: the same distribution of losses.

Each side draws its own initial weights, order, crops and flips.
"""

from functools import partial
from pathlib import Path

import numpy as np
import torch
from flax import nnx
from scipy.stats import norm, permutation_test

from experiments.checks.fidelity.parts import Cases, Comparison, Measured, Part, Size, compare_p
from experiments.checks.fidelity.training import jax_train, load_epoch
from experiments.pytorch.resnet import create_torch_model
from experiments.pytorch.training import create_torch_optimizer, torch_epoch, torch_train
from jaxresnet.data.dataset import Dataset
from jaxresnet.models.resnet import create_model
from jaxresnet.optim import OptimizerOptions
from jaxresnet.report.plots import Curve, plot_curves
from jaxresnet.report.tables import Table, mean_and_deviation, number
from jaxresnet.train.state import create_state, split_model
from jaxresnet.train.step import StepFunctions

_OPTIONS = OptimizerOptions()  # the published protocol
_BATCH_SIZE = 128
_MOST_WIDTH = 8  # thin, so that there is time for the many seeds that tell small differences
_LAST_STEPS = 20
_LEVEL, _POWER = 0.01, 0.9
_RESAMPLES = 9_999
SIDES = ("jaxresnet", "PyTorch")
# The steps whose mean loss is compared.
_FIGURES = {
    "mean loss of the epoch": slice(None),
    f"mean loss of the last {_LAST_STEPS} steps": slice(-_LAST_STEPS, None),
}


def _cases(size: Size, dataset: Dataset) -> Cases:
    """The losses of an epoch's batches, for each side and seed."""
    width = min(size.width, _MOST_WIDTH)
    network, _, _ = split_model(create_model("resnet18", width=width, rngs=nnx.Rngs(0)))
    optimizer = _OPTIONS.create(1, -(-len(dataset.train) // _BATCH_SIZE))
    step = StepFunctions(network, optimizer, dataset.normalise).jit()  # compiled once for all seeds

    def train_jax(seed: int) -> list[float]:
        model = create_model("resnet18", width=width, rngs=nnx.Rngs(seed))
        _, params, batch_stats = split_model(model)
        state = create_state(params, batch_stats, optimizer)
        return jax_train(step, state, load_epoch(dataset, _BATCH_SIZE, seed))[0]

    def train_torch(seed: int) -> list[float]:
        torch.manual_seed(seed)
        model = create_torch_model("resnet18", width=width)
        torch_optimizer = create_torch_optimizer(model.parameters(), _OPTIONS)
        batches = torch_epoch(dataset.train, _BATCH_SIZE, torch.Generator().manual_seed(seed))
        return list(torch_train(model, torch_optimizer, dataset.source, batches))

    return {
        f"{side}, seed {seed}": partial(train, seed)
        for side, train in zip(SIDES, (train_jax, train_torch), strict=True)
        for seed in range(size.seeds)
    }


def _losses(measured: Measured) -> list[np.ndarray]:
    """Of each side, (seeds, batches)."""
    return [
        np.array([losses for case, losses in measured.items() if case.startswith(f"{side}, ")])
        for side in SIDES
    ]


def _figures(measured: Measured) -> dict[str, list[np.ndarray]]:
    """By name, of each side, (seeds,)."""
    sides = _losses(measured)
    return {name: [side[:, steps].mean(1) for side in sides] for name, steps in _FIGURES.items()}


def _compare(measured: Measured) -> list[Comparison]:
    """A two-sided permutation test of the difference between the sides' means."""

    def difference(here: np.ndarray, pytorch: np.ndarray, axis: int) -> np.ndarray:
        return here.mean(axis) - pytorch.mean(axis)

    test = partial(permutation_test, statistic=difference, vectorized=True, n_resamples=_RESAMPLES)
    return [
        compare_p(
            f"{name}: permutation test of the difference of the means",
            test(sides, rng=np.random.default_rng(0)),
            least=_LEVEL,
        )
        for name, sides in _figures(measured).items()
    ]


def noticed_difference(deviation: float, seeds: int) -> float:
    """The difference of two means that a test at _LEVEL notices with probability _POWER.

    By the normal approximation; deviation: of one seed's value, the same on both sides.
    """
    quantiles = norm.isf(_LEVEL / 2) + norm.isf(1 - _POWER)
    return float(quantiles * deviation * np.sqrt(2 / seeds))


def _illustrate(directory: Path, images: str, measured: Measured) -> tuple[list[Table], list[str]]:
    sides, show = _losses(measured), partial(number, digits=3)
    seeds = len(sides[0])
    columns = ["figure", *SIDES, "difference\nof the means", "would be\nnoticed"]
    rows = [
        [
            name,
            *(mean_and_deviation(values.tolist(), show) for values in (here, pytorch)),
            show(here.mean() - pytorch.mean()),
            show(noticed_difference(pytorch.std(ddof=1), seeds)),
        ]
        for name, (here, pytorch) in _figures(measured).items()
    ]
    note = (
        f"Mean ± standard deviation over the seeds. With {seeds} seeds a side and the deviation "
        "seen among PyTorch's, a difference as large as the last column's would be noticed with "
        f"probability {_POWER} at level {_LEVEL} (normal approximation). Width {_MOST_WIDTH} at "
        f"most; the published protocol: SGD, rate {_OPTIONS.rate:g}, momentum "
        f"{_OPTIONS.momentum:g}, weight decay {_OPTIONS.weight_decay:g}."
    )
    title, plot = f"One epoch ({images}) from {seeds} seeds", "distribution.png"
    curves = []
    for colour, (side, losses) in enumerate(zip(SIDES, sides, strict=True)):
        mean, deviation = losses.mean(0).tolist(), losses.std(0, ddof=1).tolist()
        name = f"{side}, mean and standard deviation"
        curves.append(Curve(name, mean, colour, dashed=colour > 0, deviations=deviation))
    plot_curves(directory / plot, title, "step", "training loss", curves)
    return [Table(title, columns, rows, note)], [plot]


PART = Part(_cases, _compare, illustrate=_illustrate)
