"""A bias for each feature, with its gradient written out."""

import jax

from jaxresnet.kernels.sums import sum_over_pixels


@jax.custom_vjp
def add_bias(x: jax.Array, bias: jax.Array) -> jax.Array:
    """(..., features) + (features,), in the dtype of x. Reverse mode only.

    The gradient that JAX derives sums over pixels in the dtype of x: in bfloat16 that is slow on a
    CPU, and coarse.
    """
    return x + bias.astype(x.dtype)


def _forward(x: jax.Array, bias: jax.Array) -> tuple[jax.Array, jax.Array]:
    return add_bias(x, bias), bias


def _backward(bias: jax.Array, gradient: jax.Array) -> tuple[jax.Array, jax.Array]:
    return gradient, sum_over_pixels(lambda g: (g.astype(bias.dtype),), gradient)[0]


add_bias.defvjp(_forward, _backward)
