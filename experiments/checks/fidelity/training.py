"""Training step by step: the same weights and batches give PyTorch's losses."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch

from experiments.checks.fidelity.networks import Architecture
from experiments.checks.fidelity.optimizers import COMPARED
from experiments.checks.fidelity.parts import Cases, Comparison, Measured, Part, Size, worst
from experiments.pytorch.training import create_torch_optimizer, torch_train
from jaxresnet.data.augment import AUGMENTATIONS
from jaxresnet.data.dataset import Batch, Dataset
from jaxresnet.data.loaders import LoaderOptions
from jaxresnet.optim import OptimizerOptions
from jaxresnet.report.plots import plot_differences
from jaxresnet.train.state import TrainState, create_state, split_model
from jaxresnet.train.step import make_train_step

BOUNDS = {"float32": 1e-3, "float64": 1e-8}
# In float64 a step takes fifty times as long here: a thinner network, fewer images.
_FLOAT64_WIDTH, _FLOAT64_BATCH_SIZE = 8, 32
# At the published 0.1 the first steps are chaotic, and rounding alone parts two runs.
_RATE = 0.02  # of the usual learning rate


def _losses(name: str, dtype: str, size: Size, dataset: Dataset) -> dict[str, Any]:
    """The losses of the same steps of ResNet-18, here and in PyTorch."""
    width, batch_size = size.width, size.batch_size
    if dtype == "float64":
        width, batch_size = min(width, _FLOAT64_WIDTH), min(batch_size, _FLOAT64_BATCH_SIZE)
    batches = list(islice(load_epoch(dataset, batch_size, seed=0), size.steps))
    options = OptimizerOptions(name, learning_rate=_RATE * COMPARED[name].usual_learning_rate)
    architecture = Architecture("resnet18", width=width)
    network = architecture.torch_network(drawn=True)
    with jax.enable_x64(dtype == "float64"):
        model, weights = architecture.load_jax(network, dtype)
        weights = jax.tree.map(partial(jnp.asarray, dtype=dtype), weights)
        optimizer = options.create(1, size.steps)
        step = make_train_step(split_model(model)[0], optimizer, dataset.normalise)
        state = create_state(weights.params, weights.batch_stats, optimizer)
        here = list(jax_train(step, state, batches))
    network.to(getattr(torch, dtype))
    torch_optimizer = create_torch_optimizer(network.parameters(), options)
    pytorch = list(torch_train(network, torch_optimizer, dataset.source, batches))
    return {"dtype": dtype, "optimizer": COMPARED[name].title, "here": here, "PyTorch": pytorch}


def load_epoch(dataset: Dataset, batch_size: int, seed: int) -> Iterator[Any]:
    """Batches of the training images, cropped and flipped."""
    loader = LoaderOptions(workers=1)
    return loader.create(dataset.train, AUGMENTATIONS["crop-flip"], batch_size, seed).epoch(0)


def jax_train(
    step: Callable[..., Any], state: TrainState, batches: Iterable[Batch]
) -> Iterator[float]:
    """Takes a step for each batch of uint8 images and labels; yields its mean loss."""
    for images, labels in batches:
        state, metrics = step(state, images, labels)
        yield float(metrics["loss"])


def _differences(losses: Mapping[str, Any]) -> list[float]:
    """Of each step, relative."""
    here, pytorch = np.array(losses["here"]), np.array(losses["PyTorch"])
    return (np.abs(here - pytorch) / np.abs(pytorch)).tolist()


def _compare(measured: Measured) -> list[Comparison]:
    return [
        Comparison(f"{case}: losses of each step", worst(_differences(x)), BOUNDS[x["dtype"]])
        for case, x in measured.items()
    ]


def _illustrate(directory: Path, images: str, measured: Measured) -> tuple[list, list[str]]:
    plots = []
    for dtype, bound in BOUNDS.items():
        plots.append(f"training_{dtype}.png")
        title = f"ResNet-18, {images}, {dtype}: the same weights and batches"
        pairs = {
            losses["optimizer"]: (losses["here"], losses["PyTorch"], _differences(losses))
            for losses in measured.values()
            if losses["dtype"] == dtype
        }
        labels, sides = ("step", "training loss"), ("here", "PyTorch")
        plot_differences(directory / plots[-1], title, *labels, pairs, sides, bound)
    return [], plots


def _cases(size: Size, dataset: Dataset) -> Cases:
    return {
        f"{entry.title}, {dtype}": partial(_losses, name, dtype, size, dataset)
        for dtype in BOUNDS
        for name, entry in COMPARED.items()
    }


PART = Part(_cases, _compare, illustrate=_illustrate)
