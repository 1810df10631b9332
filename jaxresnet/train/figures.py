"""The figures of a training, each declared once: how it is computed, reduced and shown.

The training step, the logs, their CSV and TensorBoard files, the tables and the plots read this
table. To add a figure is to add an entry, such as

    Figure(
        "gradient_norm", "gradient\\nnorm", digits=2,
        step=lambda step: optax.tree.norm(step.gradients), epoch=mean_of("gradient_norm"),
    )
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxresnet import platform

Record = dict[str, Any]  # a line of a log, by the names of its figures
Steps = Sequence[Record]
Labels = jax.Array | np.ndarray


class StepOutputs(NamedTuple):
    """What a training step knows when it is done; trees are nested dicts of arrays."""

    loss: jax.Array  # () float32 at least, the mean over the batch
    logits: jax.Array  # (batch, classes), in the network's dtype
    labels: Labels  # (batch,) int32
    gradients: Any
    updates: Any
    params: Any  # after the step


@dataclass(frozen=True)
class Figure:
    """A figure, by where it is computed; times are in seconds, shares are fractions."""

    name: str  # its key in the logs
    header: str = ""  # of its column in tables; empty for what is only logged
    digits: int = 1  # of its column, which shows it times `scale`
    scale: float = 1
    published: str = ""  # its key in published.toml, where the labs give it by epoch
    axis: str = ""  # its name on a plot's axis
    detail: bool = False  # left out of the table by epoch
    step: Callable[[StepOutputs], jax.Array] | None = None  # a scalar, inside the training step
    derived: Callable[[Record], float] | None = None  # from the other figures of a step
    epoch: Callable[[Steps], float | None] | None = None  # from the records of an epoch's steps
    # (batch,), of which the mean over all test images is taken.
    test: Callable[[jax.Array, Labels], jax.Array] | None = None


def cross_entropy(logits: jax.Array, labels: Labels) -> jax.Array:
    """(batch, classes), (batch,) int32 -> (batch,), in float32 at least: bfloat16 is too coarse."""
    dtype = np.promote_types(logits.dtype, np.float32)
    return optax.softmax_cross_entropy_with_integer_labels(logits.astype(dtype), labels)


def is_correct(logits: jax.Array, labels: Labels) -> jax.Array:
    """(batch, classes), (batch,) int32 -> (batch,) bool."""
    return jax.lax.argmax(logits, 1, jnp.int32) == labels


def total_of(name: str) -> Callable[[Steps], float]:
    """Over the steps of an epoch."""
    return lambda steps: sum(step[name] for step in steps)


def mean_of(name: str) -> Callable[[Steps], float]:
    """Each step counting alike, as the labs average the losses of batches."""
    return lambda steps: total_of(name)(steps) / len(steps)


def running_top1(steps: Steps) -> np.ndarray:
    """Right answers over images, of an epoch's steps so far, after each of them."""
    correct, images = (np.cumsum([step[name] for step in steps]) for name in ("correct", "images"))
    return correct / images


FIGURES = (
    Figure(
        "seconds", "time", published="epoch_s", axis="seconds",
        epoch=lambda steps: total_of("input_stall")(steps) + total_of("compute")(steps),
    ),
    # The clock gives these three: see clock.py.
    Figure("input_wait", "input\nwait", detail=True, epoch=total_of("input_wait")),
    Figure("input_stall", "input\nstall", detail=True, epoch=total_of("input_stall")),
    Figure("compute", "com-\npute", detail=True, epoch=total_of("compute")),
    Figure(
        "loss", "loss", digits=3, published="loss", axis="training loss",
        step=lambda step: step.loss, epoch=mean_of("loss"),
    ),
    Figure("correct", step=lambda step: is_correct(step.logits, step.labels).sum(dtype=jnp.int32)),
    Figure(
        "top1", "top-1", scale=100, published="top1", axis="training top-1 (%)",
        derived=lambda step: step["correct"] / step["images"],
        epoch=lambda steps: total_of("correct")(steps) / total_of("images")(steps),
    ),
    # The highest that an epoch's running top-1 stood at: lab-c's "best training accuracy".
    Figure(
        "best_top1", "best\ntop-1", scale=100, detail=True,
        epoch=lambda steps: float(running_top1(steps).max()),
    ),
    Figure(
        "peak_memory", "peak\nMiB", digits=0, detail=True,
        epoch=lambda _steps: platform.peak_memory(),
    ),
    Figure("test_loss", "test\nloss", digits=3, axis="test loss", test=cross_entropy),
    Figure("test_top1", "test\ntop-1", scale=100, axis="test top-1 (%)", test=is_correct),
)  # fmt: skip
BY_NAME = {figure.name: figure for figure in FIGURES}


def step_record(position: Record, figures: Record) -> Record:
    """The line of a step. position: step, epoch, batch, images."""
    record = {**position, **figures}
    return record | {figure.name: figure.derived(record) for figure in FIGURES if figure.derived}


def epoch_record(epoch: int, steps: Steps, test: Record) -> Record:
    """The line of an epoch, from those of its steps in order, and the figures of its evaluation."""
    return {
        "epoch": epoch,
        "steps": len(steps),
        "images": total_of("images")(steps),
        **{figure.name: figure.epoch(steps) for figure in FIGURES if figure.epoch},
        **test,
    }
