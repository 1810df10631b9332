"""A recipe made ready to train: network, initial state, optimizer, batches, compiled steps."""

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import jax
import numpy as np
import optax

from jaxresnet import platform
from jaxresnet.data.augment import AUGMENTATIONS
from jaxresnet.data.dataset import Dataset
from jaxresnet.data.loaders import Loader, LoaderOptions
from jaxresnet.models.torch_names import Weights, weights_of
from jaxresnet.train.accumulation import make_step, step_buffers
from jaxresnet.train.recipe import Recipe
from jaxresnet.train.state import Network, TrainState, create_state, split_model
from jaxresnet.train.step import Metrics, StepFunctions, make_eval_step
from jaxresnet.train.weights import load_weights


@dataclass(frozen=True)
class Training:
    """What trains by a recipe."""

    series: str  # its name in the logs
    title: str  # its name for people
    recipe: Recipe
    dataset: Dataset
    network: Network
    optimizer: optax.GradientTransformation
    initial_state: TrainState
    loader: Loader
    steps_per_epoch: int  # a short last batch is a step too
    feeding: LoaderOptions  # by which the loader was made

    @property
    def epochs(self) -> int:
        return self.recipe.training.epochs

    @property
    def batch_size(self) -> int:
        return self.recipe.training.batch_size


def initial_weights(recipe: Recipe, dataset: Dataset) -> tuple[Network, Weights]:
    """The network with its first weights: drawn from the seed, or from a file; see load_weights."""
    model = recipe.model.create(len(dataset.class_names), recipe.training.seed)
    network, _, _ = split_model(model)
    drawn, path = weights_of(model), recipe.training.init_from
    return network, drawn if path is None else load_weights(path, recipe.model, like=drawn)


def build_training(
    series: str, title: str, recipe: Recipe, dataset: Dataset, loader: LoaderOptions
) -> Training:
    """All that a training depends on, at its beginning."""
    network, weights = initial_weights(recipe, dataset)
    options, augment = recipe.training, AUGMENTATIONS[recipe.training.augment]
    steps_per_epoch = math.ceil(len(dataset.train) / options.batch_size)
    optimizer = recipe.optimizer.create(options.epochs, steps_per_epoch)
    return Training(
        series=series,
        title=title,
        recipe=recipe,
        dataset=dataset,
        network=network,
        optimizer=optimizer,
        initial_state=create_state(
            weights.params, weights.batch_stats, optimizer, averaged=options.ema is not None
        ),
        loader=loader.create(dataset.train, augment, options.batch_size, options.seed),
        steps_per_epoch=steps_per_epoch,
        feeding=loader,
    )


@dataclass(frozen=True)
class Programs:
    """The compiled steps of a training.

    Attributes:
      train: by the size of the batch.
      step_memory: MiB that the largest of them needs; None if the compiler does not say.
    """

    train: dict[int, Callable[..., tuple[TrainState, Metrics]]]
    evaluate: Callable[..., Metrics]
    step_memory: float | None = None


def compile_programs(training: Training, state: TrainState) -> Programs:
    """Compiles a training step for each size of batch, and the evaluation step, side by side."""
    dataset, loader, full = training.dataset, training.loader, training.batch_size
    network, options = training.network, training.recipe.training
    functions = StepFunctions(
        network,
        training.optimizer,
        dataset.normalise,
        options.seed,
        loader.read,
        options.loss,
        training.recipe.optimizer.penalty,
        options.ema,
    )
    train_step = make_step(functions, options.accumulate)
    sizes = sorted({full, len(dataset.train) % full or full})
    lowered = [train_step.lower(state, *loader.arguments(size)) for size in sizes]
    images = jax.ShapeDtypeStruct((full, *(dataset.test.image_size,) * 2, 3), np.uint8)
    labels, mask = (jax.ShapeDtypeStruct((full,), dtype) for dtype in (np.int32, bool))
    eval_step = make_eval_step(network, dataset.normalise)
    lowered.append(eval_step.lower(*state.evaluated, images, labels, mask))
    with ThreadPoolExecutor() as pool:
        *train_steps, evaluate = pool.map(lambda program: program.compile(), lowered)
    platform.release_unused_memory()
    train = dict(zip(sizes, train_steps, strict=True))
    buffers = step_buffers(train[full])
    return Programs(train, evaluate, buffers and buffers.total / 2**20)


def trace_steps(training: Training, programs: Programs, directory: Path) -> int:
    """Leaves a profiler's trace of up to five steps after the first two; returns how many.

    Each is "train" with its number, and in it "input" is the wait for the batch. The directory
    gets what TensorBoard, XProf and Perfetto open.
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
