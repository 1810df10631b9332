"""Batch normalisation, pooling, the linear layer and dropout, as PyTorch defines them."""

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from jaxresnet.models.conv import uniform_fan_in

# torch.nn.BatchNorm2d's defaults. PyTorch's momentum is the weight of the new value.
BATCH_NORM_MOMENTUM = 0.1
BATCH_NORM_EPSILON = 1e-5


class BatchNorm(nnx.Module):
    """Batch normalisation over all axes but the last (Ioffe and Szegedy, 2015).

    As in PyTorch the batch is normalised by its biased variance, and the running variance
    averages the unbiased one. Statistics are float32 whatever the dtype of the input.
    """

    def __init__(self, features: int, *, dtype: DTypeLike = jnp.float32):
        self.dtype = dtype
        self.scale = nnx.Param(jnp.ones(features, jnp.float32))
        self.bias = nnx.Param(jnp.zeros(features, jnp.float32))
        self.mean = nnx.BatchStat(jnp.zeros(features, jnp.float32))
        self.variance = nnx.BatchStat(jnp.ones(features, jnp.float32))

    def __call__(self, inputs: jax.Array, *, train: bool) -> jax.Array:
        """(..., features) -> the same shape, in dtype; updates the running statistics if train."""
        values = inputs.astype(self.mean[...].dtype)
        if train:
            axes = tuple(range(inputs.ndim - 1))
            mean = values.mean(axes)
            variance = jnp.square(values - mean).mean(axes)
            self._update_running_statistics(mean, variance, inputs.size // inputs.shape[-1])
        else:
            mean, variance = self.mean[...], self.variance[...]
        scale = self.scale[...] * jax.lax.rsqrt(variance + BATCH_NORM_EPSILON)
        return ((values - mean) * scale + self.bias[...]).astype(self.dtype)

    def _update_running_statistics(self, mean: jax.Array, variance: jax.Array, count: int) -> None:
        unbiased = variance * (count / max(count - 1, 1))
        self.mean[...] = _running_average(self.mean[...], mean)
        self.variance[...] = _running_average(self.variance[...], unbiased)


def _running_average(old: jax.Array, new: jax.Array) -> jax.Array:
    return (1 - BATCH_NORM_MOMENTUM) * old + BATCH_NORM_MOMENTUM * jax.lax.stop_gradient(new)


class Linear(nnx.Module):
    """outputs = inputs @ kernel + bias, the kernel of shape (in, out)."""

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ):
        self.dtype = dtype
        shape = (in_features, out_features)
        self.kernel = nnx.Param(uniform_fan_in(rngs.params(), shape, in_features))
        self.bias = nnx.Param(uniform_fan_in(rngs.params(), (out_features,), in_features))

    def __call__(self, inputs: jax.Array) -> jax.Array:
        """(batch, in) -> (batch, out), in dtype."""
        kernel, bias = self.kernel[...].astype(self.dtype), self.bias[...].astype(self.dtype)
        return inputs.astype(self.dtype) @ kernel + bias


def max_pool(x: jax.Array) -> jax.Array:
    """The largest of 3x3 windows two apart; the border is padded with what never wins.

    (batch, height, width, features) -> (batch, ceil(height / 2), ceil(width / 2), features).
    """
    padding = ((0, 0), (1, 1), (1, 1), (0, 0))
    return jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (1, 3, 3, 1), (1, 2, 2, 1), padding)


def global_average_pool(x: jax.Array) -> jax.Array:
    """(batch, height, width, features) -> (batch, features)."""
    return x.mean((1, 2))


def dropout(inputs: jax.Array, rate: float, key: jax.Array) -> jax.Array:
    """Zeroes each value with probability `rate` and divides the others by 1 - rate."""
    keep = jax.random.bernoulli(key, 1 - rate, inputs.shape)
    return jnp.where(keep, inputs / (1 - rate), 0)
