"""Training step by step: the same weights and batches give PyTorch's losses."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import torch
from flax import nnx

from experiments.fidelity.comparison import Comparison, worst
from experiments.fidelity.passes import Architecture, random_torch_network
from experiments.pytorch.resnet import TorchResNet, numpy_tensors
from experiments.pytorch.training import create_torch_optimizer, torch_train
from jaxresnet.data.dataset import Split
from jaxresnet.data.pipeline import TfDataLoader
from jaxresnet.models.resnet import create_model
from jaxresnet.models.torch_weights import Weights, from_torch, weights_of
from jaxresnet.optim import OptimizerOptions, create_optimizer, get_optimizer
from jaxresnet.train.metrics import append_json_line, read_json_lines
from jaxresnet.train.state import Network, create_state, split_model
from jaxresnet.train.step import make_train_step

BOUNDS = {"float32": 1e-3, "float64": 1e-8}
# Modest: at the published 0.1 the first steps are chaotic, and rounding alone parts two runs.
RATES = {"sgd": 2e-3, "nesterov": 2e-3, "adagrad": 2e-4, "adadelta": 0.05, "adam": 1e-4}


@dataclass(frozen=True)
class Curves:
    """The losses of the same steps, here and in PyTorch."""

    optimizer: str
    dtype: str
    here: list[float]
    pytorch: list[float]

    @property
    def differences(self) -> list[float]:
        """Of each step, relative."""
        pairs = zip(self.here, self.pytorch, strict=True)
        return [abs(ours - theirs) / abs(theirs) for ours, theirs in pairs]

    def compare(self) -> Comparison:
        label = get_optimizer(self.optimizer).label
        what = f"{label}: losses of {len(self.here)} steps, {self.dtype}"
        return Comparison(what, worst(self.differences), BOUNDS[self.dtype])


def train_curves(
    split: Split,
    dtype: str,
    *,
    width: int,
    batch_size: int,
    steps: int,
    log: Path,
    say: Callable[[str], None],
) -> list[Curves]:
    """ResNet-18 with each optimizer on both sides; those that `log` has are not repeated.

    log: a file of JSON lines, one for each finished pair.
    """
    finished = [Curves(**line) for line in read_json_lines(log)]
    loader = TfDataLoader(split, batch_size=batch_size, seed=0, workers=1, prefetch=2)
    batches = [
        (np.asarray(images), np.asarray(labels))
        for images, labels in islice(loader.epoch(0), steps)
    ]
    done = {curves.optimizer for curves in finished if curves.dtype == dtype}
    for name in [name for name in RATES if name not in done]:
        say(f"{len(batches)} steps of {batch_size} images, {get_optimizer(name).label}, {dtype}")
        model = random_torch_network(Architecture("resnet18", width=width), seed=0)
        here = list(_train_here(name, model, dtype, width, batches))
        model.to(getattr(torch, dtype))
        optimizer = create_torch_optimizer(name, model.parameters(), _options(name))
        finished.append(Curves(name, dtype, here, list(torch_train(model, optimizer, batches))))
        append_json_line(log, asdict(finished[-1]))
    return [curves for curves in finished if curves.dtype == dtype]


def _options(name: str) -> OptimizerOptions:
    return OptimizerOptions(RATES[name])


def _train_here(
    name: str, theirs: TorchResNet, dtype: str, width: int, batches: list[tuple[Any, Any]]
) -> Iterator[float]:
    """From PyTorch's weights, in any dtype."""
    with jax.enable_x64(dtype == "float64"):
        model = create_model("resnet18", width=width, dtype=dtype, rngs=nnx.Rngs(0))
        weights = from_torch(numpy_tensors(theirs), weights_of(model))
        params, batch_stats = jax.tree.map(
            lambda array: jnp.asarray(array, dtype), (weights.params, weights.batch_stats)
        )
        network, _, _ = split_model(model)
        optimizer = create_optimizer(name, _options(name))
        yield from jax_train(network, Weights(params, batch_stats), optimizer, batches)


def jax_train(
    network: Network,
    weights: Weights,
    optimizer: optax.GradientTransformation,
    batches: Iterable[tuple[Any, Any]],
) -> Iterator[float]:
    """Takes a step for each batch of uint8 images and labels; yields its mean loss."""
    step = make_train_step(network, optimizer, dropout_seed=0)
    state = create_state(weights.params, weights.batch_stats, optimizer)
    for images, labels in batches:
        state, metrics = step(state, np.asarray(images), np.asarray(labels))
        yield float(metrics.loss)
