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

_TOP5_CLASSES = 100  # of fewer, five guesses are too many


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
    least_classes: int = 0  # trainings on images of fewer classes do without it
    step: Callable[[StepOutputs], jax.Array] | None = None  # a scalar, inside the training step
    share: str = ""  # the figure that counts images, over all images: of a step, of an epoch
    epoch: Callable[[Steps], float | None] | None = None  # from the records of an epoch's steps
    # (batch,), of which the mean over all test images is taken.
    test: Callable[[jax.Array, Labels], jax.Array] | None = None


def cross_entropy(logits: jax.Array, labels: Labels, smoothing: float = 0.0) -> jax.Array:
    """(batch, classes), (batch,) int32 -> (batch,), in float32 at least: bfloat16 is too coarse.

    smoothing: this share of each label goes to all classes alike, its own among them (Szegedy et
    al., 2016, "Rethinking the Inception Architecture", section 7).
    """
    logits = logits.astype(np.promote_types(logits.dtype, np.float32))
    if not smoothing:
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    targets = jax.nn.one_hot(labels, logits.shape[-1], dtype=logits.dtype)
    return optax.softmax_cross_entropy(logits, optax.smooth_labels(targets, smoothing))


def is_correct(logits: jax.Array, labels: Labels) -> jax.Array:
    """(batch, classes), (batch,) int32 -> (batch,) bool."""
    return jax.lax.argmax(logits, 1, jnp.int32) == labels


def is_in_top5(logits: jax.Array, labels: Labels) -> jax.Array:
    """(batch, 5 classes or more), (batch,) int32 -> (batch,) bool."""
    _, best = jax.lax.top_k(logits, 5)
    return (best == labels[:, None]).any(1)


def total_of(name: str) -> Callable[[Steps], float]:
    """Over the steps of an epoch."""
    return lambda steps: sum(step[name] for step in steps)


def mean_of(name: str) -> Callable[[Steps], float]:
    """Each step counting alike, as the labs average the losses of batches."""
    return lambda steps: total_of(name)(steps) / len(steps)


def share_of(name: str, steps: Steps) -> float:
    """What a figure counts of the steps' images, over all of them."""
    return total_of(name)(steps) / total_of("images")(steps)


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
        share="correct",
    ),
    # The highest that an epoch's running top-1 stood at: lab-c's "best training accuracy".
    Figure(
        "best_top1", "best\ntop-1", scale=100, detail=True,
        epoch=lambda steps: float(running_top1(steps).max()),
    ),
    Figure(
        "peak_memory", "peak\nMiB", digits=0, detail=True,
        epoch=lambda _steps: platform.peak_memory() / 2**20,
    ),
    Figure(
        "correct_top5", least_classes=_TOP5_CLASSES,
        step=lambda step: is_in_top5(step.logits, step.labels).sum(dtype=jnp.int32),
    ),
    Figure(
        "top5", "top-5", scale=100, axis="training top-5 (%)", least_classes=_TOP5_CLASSES,
        share="correct_top5",
    ),
    Figure("test_loss", "test\nloss", digits=3, axis="test loss", test=cross_entropy),
    Figure("test_top1", "test\ntop-1", scale=100, axis="test top-1 (%)", test=is_correct),
    Figure(
        "test_top5", "test\ntop-5", scale=100, axis="test top-5 (%)", least_classes=_TOP5_CLASSES,
        test=is_in_top5,
    ),
)  # fmt: skip
BY_NAME = {figure.name: figure for figure in FIGURES}


def figures_for(classes: int) -> list[Figure]:
    """Those that a training on images of so many classes has."""
    return [figure for figure in FIGURES if classes >= figure.least_classes]


def step_record(position: Record, figures: Record) -> Record:
    """The line of a step. position: step, epoch, batch, images."""
    record = {**position, **figures}
    return record | {f.name: share_of(f.share, [record]) for f in FIGURES if f.share in record}


def epoch_record(epoch: int, steps: Steps, test: Record) -> Record:
    """The line of an epoch, from those of its steps in order, and the figures of its evaluation."""
    record = {"epoch": epoch, "steps": len(steps), "images": total_of("images")(steps)}
    for figure in FIGURES:
        if figure.share in steps[0]:
            record[figure.name] = share_of(figure.share, steps)
        elif figure.epoch:
            record[figure.name] = figure.epoch(steps)
    return record | test
