"""What a training is made of, and its compiled steps."""

import math
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol

import jax
import numpy as np
import optax

from jaxresnet import platform
from jaxresnet.data.dataset import Split
from jaxresnet.data.pipeline import Batch
from jaxresnet.train.state import Network, TrainState
from jaxresnet.train.step import EvalMetrics, StepMetrics, make_eval_step, make_train_step


class Loader(Protocol):
    """Turns (seed, epoch, first batch) into what `read`, a part of the step, makes a batch of."""

    def epoch(self, epoch: int, first_batch: int = 0) -> Iterator[tuple[Any, ...]]: ...

    def arguments(self, size: int) -> tuple[jax.ShapeDtypeStruct, ...]: ...

    @property
    def read(self) -> Callable[..., Batch]: ...


@dataclass(frozen=True)
class Training:
    """One network to train, and all that its result depends on.

    series: its name in the log. label: its name for people. checkpoint_every: in steps, besides
    the end of each epoch. sync_each_step: wait for each step before asking for the next batch.
    """

    series: str
    label: str
    network: Network
    initial_state: TrainState
    optimizer: optax.GradientTransformation
    loader: Loader
    train_size: int
    test: Split
    batch_size: int
    epochs: int
    seed: int
    checkpoint_every: int
    sync_each_step: bool = False

    @property
    def steps_per_epoch(self) -> int:
        return math.ceil(self.train_size / self.batch_size)


@dataclass(frozen=True)
class Programs:
    """The compiled steps of a training; `train` by the size of the batch."""

    train: dict[int, Callable[..., tuple[TrainState, StepMetrics]]]
    evaluate: Callable[..., EvalMetrics]


def compile_programs(training: Training, state: TrainState) -> Programs:
    """Compiles a training step for each size of batch, and the evaluation step, side by side."""
    loader = training.loader
    train_step = make_train_step(training.network, training.optimizer, training.seed, loader.read)
    eval_step = make_eval_step(training.network)
    full = training.batch_size
    sizes = sorted({full, training.train_size % full or full})
    lowered = [train_step.lower(state, *loader.arguments(size)) for size in sizes]
    images = jax.ShapeDtypeStruct((full, *training.test.images.shape[1:]), np.uint8)
    labels, mask = (jax.ShapeDtypeStruct((full,), dtype) for dtype in (np.int32, bool))
    lowered.append(eval_step.lower(state.params, state.batch_stats, images, labels, mask))
    with ThreadPoolExecutor() as pool:
        *train_steps, evaluate = pool.map(lambda program: program.compile(), lowered)
    platform.release_unused_memory()
    return Programs(dict(zip(sizes, train_steps, strict=True)), evaluate)
