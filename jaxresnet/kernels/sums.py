"""What the sums over a batch's pixels have in common."""

import jax
from jax import lax


def largest_divisor(number: int, limit: int) -> int:
    """The largest divisor of a number that is not above the limit; at least 1."""
    return next(n for n in range(max(1, limit), 0, -1) if number % n == 0)


def sum_of_outer_products(x: jax.Array, g: jax.Array) -> jax.Array:
    """x^T g: (..., in), (..., out) -> (in, out)."""
    x, g = (values.reshape(-1, values.shape[-1]) for values in (x, g))
    return lax.dot_general(x, g, (((0,), (0,)), ((), ())))
