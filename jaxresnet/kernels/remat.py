"""Activations that are computed again in the backward pass (Chen et al., 2016).

What is kept is what `keep` names. jax.checkpoint keeps the second computation apart from the first
by barriers, which XLA drops on a CPU: there it would merge the two, or compute early what is needed
late. So what is kept is made to depend on the gradient that comes in, and the gradient that goes
out on those of the parameters, by adding zero times the one to the other. XLA does not take that
for zero, since 0 * NaN is none.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name

_KEPT = "kept"


def keep(x: jax.Array) -> jax.Array:
    """x, which a backward pass then need not compute again."""
    return checkpoint_name(x, _KEPT)


def recompute(
    function: Callable[[Any, Any, jax.Array], tuple[jax.Array, Any]],
) -> Callable[[Any, Any, jax.Array], tuple[jax.Array, Any]]:
    """(params, statistics, x) -> (outputs, statistics), as the function has it; reverse mode only.

    The gradient is of the outputs alone.
    """
    policy = jax.checkpoint_policies.save_only_these_names(_KEPT)
    again = jax.checkpoint(function, policy=policy)
    if jax.default_backend() != "cpu":
        return again
    in_order = jax.custom_vjp(function)
    in_order.defvjp(lambda *inputs: jax.vjp(again, *inputs), _pull_back_in_order)
    return in_order


def _pull_back_in_order(pull_back: Any, gradients: tuple[jax.Array, Any]) -> tuple[Any, ...]:
    """The gradients of parameters, statistics and x, with the zeros of the module's description.

    Of what is kept, vectors are enough to hold back all: normalisation needs its statistics.
    """
    late = _zero_of(gradients[0])

    def hold_back(kept: jax.Array) -> jax.Array:
        return kept + late.astype(kept.dtype) if kept.ndim == 1 else kept

    of_params, of_statistics, of_x = jax.tree.map(hold_back, pull_back)(gradients)
    later = sum(map(_zero_of, jax.tree.leaves(of_params)), jnp.float32(0))
    return of_params, of_statistics, of_x + later.astype(of_x.dtype)


def _zero_of(x: jax.Array) -> jax.Array:
    """A zero that is there when x is."""
    return 0 * x.ravel()[0].astype(jnp.float32)
