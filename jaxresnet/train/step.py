"""One training step and one evaluation step, pure functions; and the evaluation of a split."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxresnet import platform
from jaxresnet.data.dataset import Batch, Split
from jaxresnet.data.loaders import WorkerOptions, eval_batches
from jaxresnet.train.figures import Labels, Record, StepOutputs, cross_entropy, figures_for
from jaxresnet.train.state import Arrays, Network, TrainState

Normalise = Callable[[Any], jax.Array]  # uint8 images (batch, height, width, 3) -> float32
Metrics = dict[str, jax.Array]


class Gradient(NamedTuple):
    """Of a batch, or of a part of one; trees are nested dicts of arrays.

    Attributes:
      gradients: of what is minimised. minimised: () the mean loss and the penalty.
      loss: () the mean over the images. logits: (images, classes). labels: (images,) int32.
      batch_stats: after the pass.
    """

    gradients: Arrays
    minimised: jax.Array
    loss: jax.Array
    logits: jax.Array
    labels: Labels
    batch_stats: Arrays


@dataclass(frozen=True)
class StepFunctions:
    """What a training step is made of, as pure functions.

    Attributes:
      normalise: uint8 images -> float32. read: makes a batch inside the step.
      loss: (logits, labels) -> the loss of each image; training minimises their mean, which is the
        figure, and the penalty of the parameters.
      ema: how much of the state's average, which it must have then, stays in a step.
    """

    network: Network
    optimizer: optax.GradientTransformation
    normalise: Normalise
    dropout_seed: int = 0
    read: Callable[..., Batch] = Batch
    loss: Callable[[jax.Array, Labels], jax.Array] = cross_entropy
    penalty: Callable[[Arrays], jax.Array] | None = None
    ema: float | None = None

    def dropout_key(self, step: jax.Array) -> jax.Array:
        return jax.random.fold_in(jax.random.key(self.dropout_seed), step)

    def gradient(
        self, params: Arrays, batch_stats: Arrays, batch: Batch, dropout_key: jax.Array
    ) -> Gradient:
        images, labels = batch
        inputs = self.normalise(images)

        def minimise(params: Arrays) -> tuple[jax.Array, tuple[jax.Array, jax.Array, Arrays]]:
            logits, new_stats = self.network.apply(
                params, batch_stats, inputs, train=True, dropout_key=dropout_key
            )
            mean_loss = self.loss(logits, labels).mean()
            minimised = mean_loss if self.penalty is None else mean_loss + self.penalty(params)
            return minimised, (mean_loss, logits, new_stats)

        value_and_gradient = jax.value_and_grad(minimise, has_aux=True)
        (minimised, (mean_loss, logits, new_stats)), gradients = value_and_gradient(params)
        return Gradient(gradients, minimised, mean_loss, logits, labels, new_stats)

    def update(self, state: TrainState, gradient: Gradient) -> tuple[TrainState, Metrics]:
        """The state after the step, and its metrics.

        They are the step's figures, and `finite`, whether what was minimised, and all parameters
        and statistics after the step, are finite; all of shape ().
        """
        gradients, minimised, loss, logits, labels, batch_stats = gradient
        updates, opt_state = self.optimizer.update(gradients, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        outputs = StepOutputs(loss, logits, labels, gradients, updates, params)
        steps = {f.name: f.step for f in figures_for(logits.shape[-1]) if f.step}
        figures = {name: step(outputs) for name, step in steps.items()}
        finite = jnp.isfinite(minimised) & jnp.isfinite(optax.tree.norm((params, batch_stats)))
        average: Any = state.average
        if self.ema is not None:
            average = optax.incremental_update((params, batch_stats), average, 1 - self.ema)
        state = TrainState(state.step + 1, params, batch_stats, opt_state, average)
        return state, {**figures, "finite": finite}

    def jit(self):
        """(state, *what `read` takes) -> (state, metrics), its state donated."""

        def train_step(state: TrainState, *arguments: Any) -> tuple[TrainState, Metrics]:
            batch, key = self.read(*arguments), self.dropout_key(state.step)
            gradient = self.gradient(state.params, state.batch_stats, batch, key)
            return self.update(state, gradient)

        return jax.jit(train_step, donate_argnums=0, compiler_options=platform.compiler_options())


def make_eval_step(network: Network, normalise: Normalise):
    """(params, batch_stats, images, labels, mask) -> sums of the test figures, jitted.

    mask: (batch,) bool, False for the images that only pad the batch.
    """

    def eval_step(
        params: Arrays, batch_stats: Arrays, images: jax.Array, labels: jax.Array, mask: jax.Array
    ) -> Metrics:
        logits, _ = network.apply(params, batch_stats, normalise(images), train=False)
        tests = {f.name: f.test for f in figures_for(logits.shape[-1]) if f.test}
        return {name: test(logits, labels).sum(where=mask) for name, test in tests.items()}

    return jax.jit(eval_step, compiler_options=platform.compiler_options())


def evaluate(
    eval_step: Callable[..., Metrics],
    params: Arrays,
    batch_stats: Arrays,
    split: Split,
    batch_size: int,
    loader: WorkerOptions,
    on_batch: Callable[[int, int, Record], Any] = lambda *_: None,
) -> Record:
    """The means over all images, `test_images`, and `test_seconds`.

    params, batch_stats: on the device, where they stay. loader: how pictures are read. on_batch:
    called with each batch's number, its images, and its figures' means.
    """
    start, totals = time.perf_counter(), {}
    for number, (batch, mask) in enumerate(eval_batches(split, batch_size, loader)):
        sums = jax.device_get(eval_step(params, batch_stats, *jax.device_put((*batch, mask))))
        images, values = int(mask.sum()), {name: value.item() for name, value in sums.items()}
        totals = {name: totals.get(name, 0) + value for name, value in values.items()}
        on_batch(number, images, {name: value / images for name, value in values.items()})
    means = {name: total / len(split) for name, total in totals.items()}
    return {**means, "test_images": len(split), "test_seconds": time.perf_counter() - start}
