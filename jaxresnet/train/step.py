"""One training step and one evaluation step: pure functions, compiled ahead of time."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxresnet import platform
from jaxresnet.data.augment import normalise
from jaxresnet.train.state import Arrays, Network, TrainState


class StepMetrics(NamedTuple):
    """loss: () float32, the mean over the batch (its sum in evaluation). correct: () int32."""

    loss: jax.Array
    correct: jax.Array


def _cross_entropy(logits: jax.Array, labels: jax.Array) -> jax.Array:
    return optax.softmax_cross_entropy_with_integer_labels(logits.astype(jnp.float32), labels)


def make_train_step(network: Network, optimizer: optax.GradientTransformation, dropout_seed: int):
    """(state, images uint8, labels int32) -> (state, StepMetrics), jitted, its state donated."""

    def train_step(
        state: TrainState, images: jax.Array, labels: jax.Array
    ) -> tuple[TrainState, StepMetrics]:
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
        correct = (logits.argmax(-1) == labels).sum(dtype=jnp.int32)
        return TrainState(state.step + 1, params, batch_stats, opt_state), StepMetrics(
            loss, correct
        )

    return jax.jit(train_step, donate_argnums=0, compiler_options=platform.compiler_options())


def make_eval_step(network: Network):
    """(params, batch_stats, images, labels, mask) -> StepMetrics summed where mask, jitted."""

    def eval_step(
        params: Arrays, batch_stats: Arrays, images: jax.Array, labels: jax.Array, mask: jax.Array
    ) -> StepMetrics:
        logits, _ = network.apply(params, batch_stats, normalise(images), train=False)
        losses = jnp.where(mask, _cross_entropy(logits, labels), 0)
        correct = mask & (logits.argmax(-1) == labels)
        return StepMetrics(losses.sum(), correct.sum(dtype=jnp.int32))

    return jax.jit(eval_step, compiler_options=platform.compiler_options())
