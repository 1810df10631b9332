"""Batch normalisation over all axes but the last, with its gradient written out."""

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from jaxresnet.kernels.remat import keep
from jaxresnet.kernels.sums import sum_over_pixels

EPSILON = 1e-5  # torch.nn.BatchNorm2d's default


def _normalise_batch(
    x: jax.Array, scale: jax.Array, bias: jax.Array, dtype: DTypeLike
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """(..., features), (features,), (features,) -> normalised, mean and biased variance.

    The first in `dtype`, the others in the dtype of `scale`. The gradient that JAX derives passes
    over the activations more often, and keeps them in float32 besides: this one keeps x alone. It
    takes the mean and the variance that are returned for constants. Reverse mode only.
    """
    return _forward(x, scale, bias, dtype)[0]


normalise_batch = jax.custom_vjp(_normalise_batch, nondiff_argnums=(3,))


def scale_and_shift(
    x: jax.Array, mean: jax.Array, scale: jax.Array, bias: jax.Array, dtype: DTypeLike
) -> jax.Array:
    """(x - mean) * scale + bias, computed in the dtype of `scale` and returned in `dtype`."""
    return ((x.astype(scale.dtype) - mean) * scale + bias).astype(dtype)


def _forward(
    x: jax.Array, scale: jax.Array, bias: jax.Array, dtype: DTypeLike
) -> tuple[tuple[jax.Array, jax.Array, jax.Array], tuple[jax.Array, ...]]:
    wide, count = scale.dtype, x.size // x.shape[-1]
    mean = sum_over_pixels(lambda x: (x.astype(wide),), x)[0] / count
    variance = sum_over_pixels(lambda x: (jnp.square(x.astype(wide) - mean),), x)[0] / count
    mean, inverse = keep(mean), keep(jax.lax.rsqrt(variance + EPSILON))
    outputs = scale_and_shift(x, mean, scale * inverse, bias, dtype)
    return (outputs, mean, variance), (x, scale, mean, inverse)


def _backward(
    dtype: DTypeLike, residuals: tuple[jax.Array, ...], gradients: tuple[jax.Array, ...]
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """With n values a channel, h = (x - mean) * inverse, and g the gradient of the outputs:

    scale * inverse * (g - sum(g) / n - h * sum(g * h) / n)
    """
    x, scale, mean, inverse = residuals
    g, wide, count = gradients[0], scale.dtype, x.size // x.shape[-1]

    def terms(x: jax.Array, g: jax.Array) -> tuple[jax.Array, jax.Array]:
        return g.astype(wide), g.astype(wide) * (x.astype(wide) - mean)

    g_sum, gx_sum = sum_over_pixels(terms, x, g)
    gh_sum = inverse * gx_sum
    centred = x.astype(wide) - mean
    dx = g.astype(wide) - g_sum / count - centred * (inverse * gh_sum / count)
    return (dx * (scale * inverse)).astype(x.dtype), gh_sum, g_sum


normalise_batch.defvjp(_forward, _backward)
