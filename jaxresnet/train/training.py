"""A recipe made ready to train: network, initial state, optimizer, batches, compiled steps."""

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
import optax

from jaxresnet import platform
from jaxresnet.data.augment import AUGMENTATIONS
from jaxresnet.data.dataset import Dataset
from jaxresnet.data.loaders import Loader, LoaderOptions
from jaxresnet.models.torch_names import Weights, weights_of
from jaxresnet.train.recipe import Recipe
from jaxresnet.train.state import Network, TrainState, create_state, split_model
from jaxresnet.train.step import Metrics, make_eval_step, make_train_step
from jaxresnet.train.weights import load_weights


@dataclass(frozen=True)
class Training:
    """What trains by a recipe.

    Attributes:
      series: its name in the logs. title: its name for people.
      sync_each_step: wait for each step before asking for the next batch.
    """

    series: str
    title: str
    recipe: Recipe
    dataset: Dataset
    network: Network
    optimizer: optax.GradientTransformation
    initial_state: TrainState
    loader: Loader
    sync_each_step: bool = False

    @property
    def epochs(self) -> int:
        return self.recipe.training.epochs

    @property
    def batch_size(self) -> int:
        return self.recipe.training.batch_size

    @property
    def steps_per_epoch(self) -> int:
        return steps_per_epoch(self.recipe, self.dataset)


def steps_per_epoch(recipe: Recipe, dataset: Dataset) -> int:
    """The short last batch is a step too."""
    return math.ceil(len(dataset.train) / recipe.training.batch_size)


def initial_weights(recipe: Recipe, dataset: Dataset) -> tuple[Network, Weights]:
    """The network with its first weights: drawn from the seed, or from a file.

    Raises:
      UserError: the file's weights cannot be read or do not fit.
    """
    model = recipe.model.create(len(dataset.class_names), recipe.training.seed)
    network, _, _ = split_model(model)
    drawn, path = weights_of(model), recipe.training.init_from
    return network, drawn if path is None else load_weights(path, like=drawn)


def build_training(
    series: str, title: str, recipe: Recipe, dataset: Dataset, loader: LoaderOptions
) -> Training:
    """All that a training depends on, at its beginning."""
    network, weights = initial_weights(recipe, dataset)
    training = recipe.training
    optimizer = recipe.optimizer.create(training.epochs * steps_per_epoch(recipe, dataset))
    return Training(
        series=series,
        title=title,
        recipe=recipe,
        dataset=dataset,
        network=network,
        optimizer=optimizer,
        initial_state=create_state(weights.params, weights.batch_stats, optimizer),
        loader=loader.create(
            dataset.train, AUGMENTATIONS[training.augment], training.batch_size, training.seed
        ),
        sync_each_step=loader.sync_each_step,
    )


@dataclass(frozen=True)
class Programs:
    """The compiled steps of a training; `train` by the size of the batch."""

    train: dict[int, Callable[..., tuple[TrainState, Metrics]]]
    evaluate: Callable[..., Metrics]


def compile_programs(training: Training, state: TrainState) -> Programs:
    """Compiles a training step for each size of batch, and the evaluation step, side by side."""
    dataset, loader, full = training.dataset, training.loader, training.batch_size
    seed = training.recipe.training.seed
    train_step = make_train_step(
        training.network, training.optimizer, dataset.normalise, seed, loader.read
    )
    eval_step = make_eval_step(training.network, dataset.normalise)
    sizes = sorted({full, len(dataset.train) % full or full})
    lowered = [train_step.lower(state, *loader.arguments(size)) for size in sizes]
    images = jax.ShapeDtypeStruct((full, *dataset.test.images.shape[1:]), np.uint8)
    labels, mask = (jax.ShapeDtypeStruct((full,), dtype) for dtype in (np.int32, bool))
    lowered.append(eval_step.lower(state.params, state.batch_stats, images, labels, mask))
    with ThreadPoolExecutor() as pool:
        *train_steps, evaluate = pool.map(lambda program: program.compile(), lowered)
    platform.release_unused_memory()
    return Programs(dict(zip(sizes, train_steps, strict=True)), evaluate)


def trace_steps(training: Training, programs: Programs, directory: Any) -> int:
    """Leaves a profiler's trace of the first steps of a training, but for two.

    Each is "train" with its number, and in it "input" is the wait for the batch. The directory
    gets what TensorBoard, XProf and Perfetto open. An epoch may have fewer steps than wanted.

    Returns:
      How many steps were traced.
    """
    state, full = training.initial_state, training.batch_size
    batches = iter(training.loader.epoch(0))
    whole = len(training.dataset.train) // full
    warm_up = min(2, whole - 1)
    traced = min(5, whole - warm_up)

    def step() -> None:
        nonlocal state
        with jax.profiler.TraceAnnotation("input"):
            batch = jax.block_until_ready(jax.device_put(tuple(next(batches))))
        state, metrics = programs.train[full](state, *batch)
        jax.block_until_ready(metrics)

    for _ in range(warm_up):
        step()
    with jax.profiler.trace(str(directory)):
        for number in range(traced):
            with jax.profiler.StepTraceAnnotation("train", step_num=number):
                step()
    return traced
