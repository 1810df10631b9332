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

# A line of a log, by the names of its figures.
Record = dict[str, Any]


class StepOutputs(NamedTuple):
    """What a training step knows when it is done.

    Attributes:
      loss: () float32 at least, the mean over the batch.
      logits: (batch, classes), in the network's dtype.
      labels: (batch,) int32.
      gradients, updates, params: nested dicts of arrays; params are those after the step.
    """

    loss: jax.Array
    logits: jax.Array
    labels: jax.Array | np.ndarray
    gradients: Any
    updates: Any
    params: Any


@dataclass(frozen=True)
class Figure:
    """A figure, by the places where it is computed; times are in seconds, shares are fractions.

    Attributes:
      name: its key in the logs.
      header: of its column in tables; empty for what is only logged.
      digits, scale: how its column shows it.
      published: its key in published.toml, where the labs give it by epoch.
      axis: its name on a plot's axis.
      detail: leave it out of the table by epoch.
      step: computes it, as a scalar, inside the training step.
      derived: computes it from the other figures of a step.
      epoch: reduces the records of an epoch's steps.
      test: (logits, labels) -> (batch,), of which the mean over all test images is taken.
    """

    name: str
    header: str = ""
    digits: int = 1
    scale: float = 1
    published: str = ""
    axis: str = ""
    detail: bool = False
    step: Callable[[StepOutputs], jax.Array] | None = None
    derived: Callable[[Record], float] | None = None
    epoch: Callable[[Sequence[Record]], float] | None = None
    test: Callable[[jax.Array, jax.Array | np.ndarray], jax.Array] | None = None


def cross_entropy(logits: jax.Array, labels: jax.Array | np.ndarray) -> jax.Array:
    """(batch, classes), (batch,) int32 -> (batch,), in float32 at least: bfloat16 is too coarse."""
    dtype = np.promote_types(logits.dtype, np.float32)
    return optax.softmax_cross_entropy_with_integer_labels(logits.astype(dtype), labels)


def is_correct(logits: jax.Array, labels: jax.Array | np.ndarray) -> jax.Array:
    """(batch, classes), (batch,) int32 -> (batch,) bool."""
    return jax.lax.argmax(logits, 1, jnp.int32) == labels


def mean_of(name: str) -> Callable[[Sequence[Record]], float]:
    """Over the steps, each counting alike: as the labs average the losses of batches."""
    return lambda steps: total_of(name)(steps) / len(steps)


def total_of(name: str) -> Callable[[Sequence[Record]], float]:
    return lambda steps: sum(step[name] for step in steps)


def _top1(steps: Sequence[Record]) -> float:
    return total_of("correct")(steps) / total_of("images")(steps)


def running_top1(steps: Sequence[Record]) -> np.ndarray:
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
    Figure(
        "correct",
        step=lambda step: is_correct(step.logits, step.labels).sum(dtype=jnp.int32),
    ),
    Figure(
        "top1", "top-1", scale=100, published="top1", axis="training top-1 (%)",
        derived=lambda step: step["correct"] / step["images"], epoch=_top1,
    ),
    # The highest that an epoch's running top-1 stood at: lab-c's "best training accuracy".
    Figure(
        "best_top1", "best\ntop-1", scale=100, detail=True,
        epoch=lambda steps: float(running_top1(steps).max()),
    ),
    Figure("test_loss", "test\nloss", digits=3, axis="test loss", test=cross_entropy),
    Figure("test_top1", "test\ntop-1", scale=100, axis="test top-1 (%)", test=is_correct),
)  # fmt: skip
BY_NAME = {figure.name: figure for figure in FIGURES}


def step_figures(outputs: StepOutputs) -> dict[str, jax.Array]:
    """What the training step itself computes, all of shape ()."""
    return {figure.name: figure.step(outputs) for figure in FIGURES if figure.step}


def test_figures(
    logits: jax.Array, labels: jax.Array | np.ndarray, mask: jax.Array
) -> dict[str, jax.Array]:
    """Sums over the images of a batch where the mask is set, all of shape ()."""
    return {
        figure.name: figure.test(logits, labels).sum(where=mask)
        for figure in FIGURES
        if figure.test
    }


def step_record(position: Record, figures: Record) -> Record:
    """The line of a step. position: step, epoch, batch, images."""
    record = {**position, **figures}
    derived = {figure.name: figure.derived(record) for figure in FIGURES if figure.derived}
    return {**record, **derived}


def epoch_record(epoch: int, steps: Sequence[Record], test: Record) -> Record:
    """The line of an epoch, from those of its steps in order, and what its evaluation found."""
    return {
        "epoch": epoch,
        "steps": len(steps),
        "images": total_of("images")(steps),
        **{figure.name: figure.epoch(steps) for figure in FIGURES if figure.epoch},
        **test,
    }
