"""One training step and one evaluation step: pure functions, compiled ahead of time."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxresnet import platform
from jaxresnet.data.dataset import Batch
from jaxresnet.train.figures import StepOutputs, cross_entropy, step_figures, test_figures
from jaxresnet.train.state import Arrays, Network, TrainState

# uint8 images (batch, height, width, 3) -> float32.
Normalise = Callable[[Any], jax.Array]
Metrics = dict[str, jax.Array]


def make_train_step(
    network: Network,
    optimizer: optax.GradientTransformation,
    normalise: Normalise,
    dropout_seed: int = 0,
    read: Callable[..., Batch] = Batch,
):
    """(state, *what `read` takes) -> (state, metrics), jitted, its state donated.

    metrics: the step's figures, and `finite`, whether the loss, and all parameters and statistics
    after the step, are finite; all of shape ().

    Args:
      read: makes a batch inside the step; without it images and labels are taken.
    """

    def train_step(state: TrainState, *arguments: Any) -> tuple[TrainState, Metrics]:
        images, labels = read(*arguments)
        dropout_key = jax.random.fold_in(jax.random.key(dropout_seed), state.step)
        inputs = normalise(images)

        def loss_function(params: Arrays) -> tuple[jax.Array, tuple[jax.Array, Arrays]]:
            logits, batch_stats = network.apply(
                params, state.batch_stats, inputs, train=True, dropout_key=dropout_key
            )
            return cross_entropy(logits, labels).mean(), (logits, batch_stats)

        gradient = jax.value_and_grad(loss_function, has_aux=True)
        (loss, (logits, batch_stats)), gradients = gradient(state.params)
        updates, opt_state = optimizer.update(gradients, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        figures = step_figures(StepOutputs(loss, logits, labels, gradients, updates, params))
        finite = jnp.isfinite(loss) & jnp.isfinite(optax.tree.norm((params, batch_stats)))
        state = TrainState(state.step + 1, params, batch_stats, opt_state)
        return state, {**figures, "finite": finite}

    return jax.jit(train_step, donate_argnums=0, compiler_options=platform.compiler_options())


def make_eval_step(network: Network, normalise: Normalise):
    """(params, batch_stats, images, labels, mask) -> sums of the test figures, jitted.

    mask: (batch,) bool, False for the images that only pad the batch.
    """

    def eval_step(
        params: Arrays, batch_stats: Arrays, images: jax.Array, labels: jax.Array, mask: jax.Array
    ) -> Metrics:
        logits, _ = network.apply(params, batch_stats, normalise(images), train=False)
        return test_figures(logits, labels, mask)

    return jax.jit(eval_step, compiler_options=platform.compiler_options())
