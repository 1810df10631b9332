"""One training step and one evaluation step: pure functions, compiled ahead of time."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxresnet import platform
from jaxresnet.data.augment import normalise
from jaxresnet.data.pipeline import Batch
from jaxresnet.train.state import Arrays, Network, TrainState


class StepMetrics(NamedTuple):
    """What a training step reports, all of shape ().

    loss: the mean over the batch, float32 at least. correct: int32, right answers.
    finite: bool, whether the loss, and all parameters and statistics after the step, are finite.
    """

    loss: jax.Array
    correct: jax.Array
    finite: jax.Array


class EvalMetrics(NamedTuple):
    """Sums over the images of a batch that are not padding: loss () float32, correct () int32."""

    loss: jax.Array
    correct: jax.Array


def _cross_entropy(logits: jax.Array, labels: jax.Array | np.ndarray) -> jax.Array:
    dtype = np.promote_types(logits.dtype, np.float32)  # bfloat16 is too coarse for it
    return optax.softmax_cross_entropy_with_integer_labels(logits.astype(dtype), labels)


def _is_correct(logits: jax.Array, labels: jax.Array | np.ndarray) -> jax.Array:
    return jax.lax.argmax(logits, 1, jnp.int32) == labels


def make_train_step(
    network: Network,
    optimizer: optax.GradientTransformation,
    dropout_seed: int,
    read: Callable[..., Batch] = Batch,
):
    """(state, *what `read` takes) -> (state, StepMetrics), jitted, its state donated.

    read: makes a batch, images uint8 and labels int32, inside the step; without it they are taken.
    """

    def train_step(state: TrainState, *arguments: jax.Array) -> tuple[TrainState, StepMetrics]:
        images, labels = read(*arguments)
        dropout_key = jax.random.fold_in(jax.random.key(dropout_seed), state.step)
        inputs = normalise(images)

        def loss_function(params: Arrays) -> tuple[jax.Array, tuple[jax.Array, Arrays]]:
            logits, batch_stats = network.apply(
                params, state.batch_stats, inputs, train=True, dropout_key=dropout_key
            )
            return _cross_entropy(logits, labels).mean(), (logits, batch_stats)

        gradient = jax.value_and_grad(loss_function, has_aux=True)
        (loss, (logits, batch_stats)), gradients = gradient(state.params)
        updates, opt_state = optimizer.update(gradients, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        state = TrainState(state.step + 1, params, batch_stats, opt_state)
        return state, StepMetrics(
            loss=loss,
            correct=_is_correct(logits, labels).sum(dtype=jnp.int32),
            finite=jnp.isfinite(loss) & jnp.isfinite(optax.tree.norm((params, batch_stats))),
        )

    return jax.jit(train_step, donate_argnums=0, compiler_options=platform.compiler_options())


def make_eval_step(network: Network):
    """(params, batch_stats, images, labels, mask) -> EvalMetrics, jitted.

    mask: (batch,) bool, False for the images that only pad the batch.
    """

    def eval_step(
        params: Arrays, batch_stats: Arrays, images: jax.Array, labels: jax.Array, mask: jax.Array
    ) -> EvalMetrics:
        logits, _ = network.apply(params, batch_stats, normalise(images), train=False)
        losses = jnp.where(mask, _cross_entropy(logits, labels), 0)
        correct = mask & _is_correct(logits, labels)
        return EvalMetrics(losses.sum(), correct.sum(dtype=jnp.int32))

    return jax.jit(eval_step, compiler_options=platform.compiler_options())
