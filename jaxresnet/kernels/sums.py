"""What the sums over a batch's pixels have in common."""

import operator
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax

# A loop that sums over pixels takes slices of at most so many values: 256 KB in float32.
_SUMMED_VALUES = 2**16


def largest_divisor(number: int, limit: int) -> int:
    """The largest divisor of a number that is not above the limit; at least 1."""
    return next(n for n in range(max(1, limit), 0, -1) if number % n == 0)


def sum_of_outer_products(x: jax.Array, g: jax.Array) -> jax.Array:
    """x^T g: (..., in), (..., out) -> (in, out)."""
    x, g = (values.reshape(-1, values.shape[-1]) for values in (x, g))
    return lax.dot_general(x, g, (((0,), (0,)), ((), ())))


def sum_over_pixels(
    terms: Callable[..., tuple[jax.Array, ...]], *arrays: jax.Array
) -> tuple[jax.Array, ...]:
    """Sums of what `terms` makes of arrays (..., features), over all axes but the last.

    On a CPU the loop below takes a quarter to a half of the time of XLA's sums in bfloat16, which
    it converts slowly. And what two sums compute alike, such as x - mean, XLA writes to memory in
    float32 for both to read, and keeps from the forward to the backward pass: not from a loop.
    """
    if jax.default_backend() != "cpu":
        return tuple(term.sum(tuple(range(term.ndim - 1))) for term in terms(*arrays))
    features = arrays[0].shape[-1]
    pixels = largest_divisor(arrays[0].size // features, _SUMMED_VALUES // features)
    slices = [array.reshape(-1, pixels, features) for array in arrays]

    zeros = jax.tree.map(jnp.zeros_like, jax.eval_shape(terms, *(values[0] for values in slices)))
    totals, _ = lax.scan(
        lambda totals, values: (jax.tree.map(operator.add, totals, terms(*values)), None),
        zeros,
        slices,
    )
    return tuple(total.sum(0) for total in totals)
