"""Training step by step: the same weights and batches give PyTorch's losses."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from experiments.checks.fidelity.layers import Tensors, differences
from experiments.checks.fidelity.networks import Architecture
from experiments.checks.fidelity.optimizers import COMPARED
from experiments.checks.fidelity.parts import Cases, Comparison, Measured, Part, Size, worst
from experiments.pytorch.resnet import numpy_tensors
from experiments.pytorch.training import (
    create_torch_optimizer,
    create_torch_scheduler,
    torch_penalty,
    torch_train,
)
from jaxresnet.data.augment import AUGMENTATIONS
from jaxresnet.data.dataset import Batch, Dataset
from jaxresnet.data.loaders import LoaderOptions
from jaxresnet.models.resnet import ResNet
from jaxresnet.models.torch_names import Weights, to_torch
from jaxresnet.optim import OptimizerOptions
from jaxresnet.report.plots import plot_differences
from jaxresnet.train.recipe import TrainingOptions
from jaxresnet.train.state import TrainState, create_state, split_model
from jaxresnet.train.step import StepFunctions

BOUNDS = {"float32": 1e-3, "float64": 1e-8}
# In float64 a step takes fifty times as long here: a thinner network, fewer images.
_FLOAT64_WIDTH, _FLOAT64_BATCH_SIZE = 8, 32
# At the published 0.1 the first steps are chaotic, and rounding alone parts two runs.
_RATE = 0.02  # of the usual learning rate


@dataclass(frozen=True)
class _Recipe:
    """What is trained with."""

    optimizer: OptimizerOptions
    training: TrainingOptions = TrainingOptions(epochs=1)


# Each optimizer by itself, and SGD with all that can be added.
_RECIPES = {
    entry.title: _Recipe(OptimizerOptions(name, learning_rate=_RATE * entry.usual_learning_rate))
    for name, entry in COMPARED.items()
} | {
    "SGD with all options": _Recipe(
        OptimizerOptions(
            learning_rate=_RATE * COMPARED["sgd"].usual_learning_rate,
            schedule="cosine",
            warmup_epochs=0.3,
            l1=1e-4,
            l2=1e-2,
            no_decay_on_norm=True,
        ),
        TrainingOptions(epochs=1, label_smoothing=0.1, ema=0.9),
    )
}


def _train(title: str, dtype: str, size: Size, dataset: Dataset) -> dict[str, Any]:
    """Takes the same steps with ResNet-18 here and in PyTorch.

    Returns the losses of both, and the largest difference of the weights at the end, which are
    averages where averages are kept.
    """
    width, batch_size, recipe = size.width, size.batch_size, _RECIPES[title]
    if dtype == "float64":
        width, batch_size = min(width, _FLOAT64_WIDTH), min(batch_size, _FLOAT64_BATCH_SIZE)
    batches = list(islice(load_epoch(dataset, batch_size, seed=0), size.steps))
    architecture = Architecture("resnet18", width=width)
    network = architecture.torch_network(drawn=True)
    with jax.enable_x64(dtype == "float64"):
        model, weights = architecture.load_jax(network, dtype)
        weights = jax.tree.map(partial(jnp.asarray, dtype=dtype), weights)
        here, state = _train_here(recipe, model, weights, batches, dataset)
        evaluated = to_torch(Weights(*state.evaluated))
    pytorch, average = _train_in_torch(recipe, network.to(getattr(torch, dtype)), batches, dataset)
    counted = {name: tensor for name, tensor in average.items() if "batches" not in name}
    apart = worst(differences(evaluated, counted).values())
    return {"dtype": dtype, "recipe": title, "here": here, "PyTorch": pytorch, "weights": apart}


def _train_here(
    recipe: _Recipe, model: ResNet, weights: Weights, batches: Sequence[Batch], dataset: Dataset
) -> tuple[list[float], TrainState]:
    options, ema = recipe.optimizer, recipe.training.ema
    optimizer = options.create(recipe.training.epochs, len(batches))
    step = StepFunctions(
        split_model(model)[0],
        optimizer,
        dataset.normalise,
        loss=recipe.training.loss,
        penalty=options.penalty,
        ema=ema,
    ).jit()
    trees = weights.params, weights.batch_stats
    return jax_train(step, create_state(*trees, optimizer, averaged=ema is not None), batches)


def _train_in_torch(
    recipe: _Recipe, network: nn.Module, batches: Sequence[Batch], dataset: Dataset
) -> tuple[list[float], Tensors]:
    options, losses = recipe.optimizer, []
    optimizer = create_torch_optimizer(network.parameters(), options)
    scheduler = create_torch_scheduler(optimizer, options, recipe.training.epochs, len(batches))
    blend = get_ema_multi_avg_fn(recipe.training.ema or 0.0)  # of 0: the weights themselves
    average = AveragedModel(network, multi_avg_fn=blend, use_buffers=True)
    average.update_parameters(network)  # the first call copies
    loss = nn.CrossEntropyLoss(label_smoothing=recipe.training.label_smoothing)
    penalty = partial(torch_penalty, list(network.parameters()), options)
    for mean_loss in torch_train(network, optimizer, dataset.source, batches, loss, penalty):
        losses.append(mean_loss)
        scheduler.step()
        average.update_parameters(network)
    return losses, numpy_tensors(average.module)


def load_epoch(dataset: Dataset, batch_size: int, seed: int) -> Iterator[Any]:
    """Batches of the training images, cropped and flipped."""
    loader = LoaderOptions(workers=1)
    return loader.create(dataset.train, AUGMENTATIONS["crop-flip"], batch_size, seed).epoch(0)


def jax_train(
    step: Callable[..., Any], state: TrainState, batches: Iterable[Batch]
) -> tuple[list[float], TrainState]:
    """Takes a step for each batch of uint8 images and labels: the mean losses, the last state."""
    losses = []
    for images, labels in batches:
        state, metrics = step(state, images, labels)
        losses.append(float(metrics["loss"]))
    return losses, state


def _differences(losses: Mapping[str, Any]) -> list[float]:
    """Of each step, relative."""
    here, pytorch = np.array(losses["here"]), np.array(losses["PyTorch"])
    return (np.abs(here - pytorch) / np.abs(pytorch)).tolist()


def _compare(measured: Measured) -> list[Comparison]:
    comparisons = []
    for case, x in measured.items():
        bound, losses = BOUNDS[x["dtype"]], worst(_differences(x))
        comparisons.append(Comparison(f"{case}: losses of each step", losses, bound))
        if x["dtype"] == "float64":  # in float32 rounding parts the weights first
            comparisons.append(Comparison(f"{case}: weights at the end", x["weights"], bound))
    return comparisons


def _illustrate(directory: Path, images: str, measured: Measured) -> tuple[list, list[str]]:
    plots = []
    for dtype, bound in BOUNDS.items():
        plots.append(f"training_{dtype}.png")
        title = f"ResNet-18, {images}, {dtype}: the same weights and batches"
        pairs = {
            losses["recipe"]: (losses["here"], losses["PyTorch"], _differences(losses))
            for losses in measured.values()
            if losses["dtype"] == dtype
        }
        labels, sides = ("step", "training loss"), ("here", "PyTorch")
        plot_differences(directory / plots[-1], title, *labels, pairs, sides, bound)
    return [], plots


def _cases(size: Size, dataset: Dataset) -> Cases:
    return {
        f"{title}, {dtype}": partial(_train, title, dtype, size, dataset)
        for dtype in BOUNDS
        for title in _RECIPES
    }


PART = Part(_cases, _compare, illustrate=_illustrate)
