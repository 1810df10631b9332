"""Batch normalisation, pooling, the linear layer and dropout, as PyTorch defines them."""

import functools
import operator
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.typing import DTypeLike

from jaxresnet.models.conv import largest_divisor, uniform_fan_in

# torch.nn.BatchNorm2d's defaults. PyTorch's momentum is the weight of the new value.
BATCH_NORM_MOMENTUM = 0.1
BATCH_NORM_EPSILON = 1e-5

# A loop that sums over pixels takes slices of at most so many values: 256 KB in float32.
_SUMMED_VALUES = 2**16


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
        if train:
            outputs, mean, variance = normalise_batch(
                inputs, self.scale[...], self.bias[...], self.dtype
            )
            self._update_running_statistics(mean, variance, inputs.size // inputs.shape[-1])
            return outputs
        scale = self.scale[...] * jax.lax.rsqrt(self.variance[...] + BATCH_NORM_EPSILON)
        return _scale_and_shift(inputs, self.mean[...], scale, self.bias[...], self.dtype)

    def _update_running_statistics(self, mean: jax.Array, variance: jax.Array, count: int) -> None:
        unbiased = variance * (count / max(count - 1, 1))
        self.mean[...] = _running_average(self.mean[...], mean)
        self.variance[...] = _running_average(self.variance[...], unbiased)


def _running_average(old: jax.Array, new: jax.Array) -> jax.Array:
    return (1 - BATCH_NORM_MOMENTUM) * old + BATCH_NORM_MOMENTUM * jax.lax.stop_gradient(new)


def _normalise_batch(
    x: jax.Array, scale: jax.Array, bias: jax.Array, dtype: DTypeLike
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The batch normalised, in dtype; its mean; its biased variance. See BatchNorm.

    The gradient is written out because the one that JAX derives passes over the activations more
    often, and keeps them in float32 besides: this one keeps x alone. It takes the mean and the
    variance that are returned for constants. Reverse mode only.
    """
    return _normalise_batch_forward(x, scale, bias, dtype)[0]


normalise_batch = jax.custom_vjp(_normalise_batch, nondiff_argnums=(3,))


def _normalise_batch_forward(
    x: jax.Array, scale: jax.Array, bias: jax.Array, dtype: DTypeLike
) -> tuple[tuple[jax.Array, jax.Array, jax.Array], tuple[jax.Array, ...]]:
    wide, count = scale.dtype, x.size // x.shape[-1]
    mean = _sum_over_pixels(lambda x: (x.astype(wide),), x)[0] / count
    variance = _sum_over_pixels(lambda x: (jnp.square(x.astype(wide) - mean),), x)[0] / count
    inverse = jax.lax.rsqrt(variance + BATCH_NORM_EPSILON)
    outputs = _scale_and_shift(x, mean, scale * inverse, bias, dtype)
    return (outputs, mean, variance), (x, scale, mean, inverse)


def _normalise_batch_backward(
    dtype: DTypeLike, residuals: tuple[jax.Array, ...], gradients: tuple[jax.Array, ...]
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """With n values a channel, h = (x - mean) * inverse, and g the gradient of the outputs:

    scale * inverse * (g - sum(g) / n - h * sum(g * h) / n)
    """
    x, scale, mean, inverse = residuals
    g, wide, count = gradients[0], scale.dtype, x.size // x.shape[-1]

    def terms(x: jax.Array, g: jax.Array) -> tuple[jax.Array, jax.Array]:
        return g.astype(wide), g.astype(wide) * (x.astype(wide) - mean)

    g_sum, gx_sum = _sum_over_pixels(terms, x, g)
    gh_sum = inverse * gx_sum
    centred = x.astype(wide) - mean
    dx = g.astype(wide) - g_sum / count - centred * (inverse * gh_sum / count)
    return (dx * (scale * inverse)).astype(x.dtype), gh_sum, g_sum


normalise_batch.defvjp(_normalise_batch_forward, _normalise_batch_backward)


def _sum_over_pixels(
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

    def add(
        totals: tuple[jax.Array, ...], values: list[jax.Array]
    ) -> tuple[tuple[jax.Array, ...], None]:
        return jax.tree.map(operator.add, totals, terms(*values)), None

    totals = jax.tree.map(jnp.zeros_like, jax.eval_shape(terms, *(values[0] for values in slices)))
    totals, _ = jax.lax.scan(add, totals, slices)
    return tuple(total.sum(0) for total in totals)


def _scale_and_shift(
    x: jax.Array, mean: jax.Array, scale: jax.Array, bias: jax.Array, dtype: DTypeLike
) -> jax.Array:
    return ((x.astype(scale.dtype) - mean) * scale + bias).astype(dtype)


@jax.custom_vjp
def relu(x: jax.Array) -> jax.Array:
    """max(x, 0). Its gradient is taken from the output, which the next layer keeps anyway."""
    return jnp.maximum(x, 0)


relu.defvjp(
    lambda x: (relu(x),) * 2,
    lambda y, g: (jnp.where(y > 0, g, 0),),
)


@jax.custom_vjp
def relu_of_sum(x: jax.Array, y: jax.Array) -> jax.Array:
    """max(x + y, 0), for finite values of equal shape and dtype. Reverse mode only.

    Written as max(x, -y) + y, the same number. An expression with one large operand, such as
    max(sum, 0), is computed again by XLA in each fusion that reads it, so that the last of a row
    of residual blocks would begin at the first. y must not end in a multiplication, which XLA may
    fuse with the addition, unrounded: a batch norm, a convolution or a block's output do not.

    Both are widened first, since XLA adds bfloat16 in float32, and may then add y as it was before
    it was rounded: the rounded -y would leave a remainder instead of 0.
    """
    wide = np.promote_types(x.dtype, np.float32)
    if wide != x.dtype:
        # The same y. But XLA computes a maximum in bfloat16; without one it hands the sum from
        # block to block in float32, which it writes to memory too.
        y = jnp.maximum(y, jnp.finfo(y.dtype).min)
    wide_x, wide_y = x.astype(wide), y.astype(wide)
    return (jnp.maximum(wide_x, -wide_y) + wide_y).astype(x.dtype)


relu_of_sum.defvjp(
    lambda x, y: (relu_of_sum(x, y),) * 2,
    lambda z, g: (jnp.where(z > 0, g, 0),) * 2,
)


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


@jax.custom_vjp
def max_pool(x: jax.Array) -> jax.Array:
    """The largest of 3x3 windows two apart; the border is padded with what never wins.

    (batch, height, width, features) -> (batch, ceil(height / 2), ceil(width / 2), features).
    For finite values: the first of equal ones in a window gets the gradient, as in PyTorch.
    Written with slices: XLA's own windows are slow on a CPU, and their gradient more so. Reverse
    mode only.
    """
    return functools.reduce(jnp.maximum, _window_values(x))


def _window_values(x: jax.Array) -> list[jax.Array]:
    """The nine values of each window, row by row. The padded size is even: see the gradient."""
    after = [1 + size % 2 for size in x.shape[1:3]]
    padding = ((0, 0), (1, after[0]), (1, after[1]), (0, 0))
    x = jnp.pad(x, padding, constant_values=-jnp.inf)
    return [
        x[:, i : x.shape[1] - 2 + i : 2, j : x.shape[2] - 2 + j : 2]
        for i in range(3)
        for j in range(3)
    ]


def _max_pool_gradient(x: jax.Array, g: jax.Array) -> tuple[jax.Array]:
    """A pixel lies in one, two or four windows, and has the gradients of those that it wins.

    Pixels in even and in odd rows and columns lie at different places of their windows: four
    phases, interleaved.
    """
    wide = np.promote_types(x.dtype, np.float32)  # gradients are added, and rounded once
    values, g = _window_values(x.astype(wide)), g.astype(wide)
    largest, winner = values[0], jnp.zeros(g.shape, jnp.int32)
    for place, value in enumerate(values[1:], 1):
        winner = jnp.where(value > largest, place, winner)
        largest = jnp.maximum(largest, value)

    def of_place(i: int, j: int) -> jax.Array:
        """One more row and column: windows that begin two pixels earlier reach as far."""
        rows, columns = ((n // 2, 1 - n // 2) for n in (i, j))
        return jnp.pad(jnp.where(winner == 3 * i + j, g, 0), ((0, 0), rows, columns, (0, 0)))

    def of_phase(row: int, column: int) -> jax.Array:
        places = [(i, j) for i in range(row, 3, 2) for j in range(column, 3, 2)]
        return functools.reduce(operator.add, (of_place(i, j) for i, j in places))

    phases = jnp.stack([jnp.stack([of_phase(i, j) for j in range(2)], 3) for i in range(2)], 2)
    batch, rows, _, columns, _, features = phases.shape
    padded = phases.reshape(batch, 2 * rows, 2 * columns, features)
    return (padded[:, 1 : 1 + x.shape[1], 1 : 1 + x.shape[2]].astype(x.dtype),)


max_pool.defvjp(lambda x: (max_pool(x), x), _max_pool_gradient)


def global_average_pool(x: jax.Array) -> jax.Array:
    """(batch, height, width, features) -> (batch, features)."""
    return x.mean((1, 2))


def dropout(inputs: jax.Array, rate: float, key: jax.Array) -> jax.Array:
    """Zeroes each value with probability `rate` and divides the others by 1 - rate."""
    keep = jax.random.bernoulli(key, 1 - rate, inputs.shape)
    return jnp.where(keep, inputs / (1 - rate), 0)
