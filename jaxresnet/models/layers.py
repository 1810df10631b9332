"""The layers, as PyTorch defines and initialises them, on channels-last arrays."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.core import Tracer
from jax.typing import DTypeLike

from jaxresnet.kernels.bias import add_bias
from jaxresnet.kernels.conv import CONVOLUTIONS, plain_conv
from jaxresnet.kernels.norm import EPSILON, normalise_batch, scale_and_shift

BATCH_NORM_MOMENTUM = 0.1  # torch.nn.BatchNorm2d's default: the weight of the new value


def uniform_fan_in(key: jax.Array, shape: tuple[int, ...], fan_in: int) -> jax.Array:
    """Draws from U(-1/sqrt(fan_in), 1/sqrt(fan_in)) in float32.

    This is what torch.nn.Conv2d and torch.nn.Linear do by default, for weights and biases
    alike: kaiming_uniform_ with a = sqrt(5) has gain sqrt(1/3), hence this bound.

    NumPy draws on the host, from a generator keyed by `key`: the same weights on every device,
    and nothing to compile. jax.nn.initializers.variance_scaling compiles a program for each
    shape, ten seconds for those of a ResNet-18, and cannot tell a bias's fan-in from its shape.
    Where JAX only traces, as for a network's shapes, nothing is drawn before the program runs.
    """

    def draw(words: np.ndarray) -> np.ndarray:
        generator = np.random.Generator(np.random.Philox(key=np.asarray(words)))
        return (2 * generator.random(shape, np.float32) - 1) * np.float32(fan_in**-0.5)

    words = jax.random.key_data(key)
    if isinstance(words, Tracer):
        return jax.pure_callback(draw, jax.ShapeDtypeStruct(shape, jnp.float32), words)
    return jnp.asarray(draw(np.asarray(words)))


class Conv(nnx.Module):
    """Square convolution with symmetric zero padding.

    Attributes:
      kernel: (height, width, in, out) float32. bias: (out,) float32, or None.
      convolution: one of CONVOLUTIONS; devices other than a CPU are good at JAX's own.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        kernel_size: int,
        *,
        stride: int = 1,
        padding: int | None = None,
        use_bias: bool = False,
        dtype: DTypeLike = jnp.float32,
        convolution: str = "fast",
        rngs: nnx.Rngs,
    ):
        """padding: pixels on each side; None: kernel_size // 2."""
        self.stride = stride
        self.padding = kernel_size // 2 if padding is None else padding
        self.dtype = dtype
        self.convolution = convolution
        fan_in = kernel_size * kernel_size * in_features
        shape = (kernel_size, kernel_size, in_features, out_features)
        self.kernel = nnx.Param(uniform_fan_in(rngs.params(), shape, fan_in))
        self.bias = (
            nnx.Param(uniform_fan_in(rngs.params(), (out_features,), fan_in)) if use_bias else None
        )

    def __call__(self, images: jax.Array) -> jax.Array:
        """(batch, height, width, in) -> (batch, height', width', out), in dtype."""
        on_cpu = jax.default_backend() == "cpu"
        convolve = CONVOLUTIONS[self.convolution] if on_cpu else plain_conv
        kernel = self.kernel[...].astype(self.dtype)
        outputs = convolve(images.astype(self.dtype), kernel, self.stride, self.padding)
        return outputs if self.bias is None else add_bias(outputs, self.bias[...])


class BatchNorm(nnx.Module):
    """Batch normalisation over all axes but the last (Ioffe and Szegedy, 2015).

    As in PyTorch the batch is normalised by its biased variance, and the running variance
    averages the unbiased one. Statistics are float32 whatever the dtype of the input.
    """

    def __init__(
        self, features: int, *, initial_scale: float = 1.0, dtype: DTypeLike = jnp.float32
    ):
        self.dtype = dtype
        self.scale = nnx.Param(jnp.full(features, initial_scale, jnp.float32))
        self.bias = nnx.Param(jnp.zeros(features, jnp.float32))
        self.mean = nnx.BatchStat(jnp.zeros(features, jnp.float32))
        self.variance = nnx.BatchStat(jnp.ones(features, jnp.float32))

    def __call__(self, inputs: jax.Array, *, train: bool) -> jax.Array:
        """(..., features) -> the same shape, in dtype; updates the running statistics if train."""
        scale, bias = self.scale[...], self.bias[...]
        if not train:
            scale = scale * jax.lax.rsqrt(self.variance[...] + EPSILON)
            return scale_and_shift(inputs, self.mean[...], scale, bias, self.dtype)
        outputs, mean, variance = normalise_batch(inputs, scale, bias, self.dtype)
        count = inputs.size // inputs.shape[-1]
        unbiased = variance * (count / max(count - 1, 1))
        self.mean[...] = _running_average(self.mean[...], mean)
        self.variance[...] = _running_average(self.variance[...], unbiased)
        return outputs


def _running_average(old: jax.Array, new: jax.Array) -> jax.Array:
    return (1 - BATCH_NORM_MOMENTUM) * old + BATCH_NORM_MOMENTUM * jax.lax.stop_gradient(new)


class Linear(nnx.Module):
    """outputs = inputs @ kernel + bias, the kernel of shape (in, out)."""

    def __init__(
        self, in_features: int, out_features: int, *, dtype: DTypeLike = jnp.float32, rngs: nnx.Rngs
    ):
        self.dtype = dtype
        shape = (in_features, out_features)
        self.kernel = nnx.Param(uniform_fan_in(rngs.params(), shape, in_features))
        self.bias = nnx.Param(uniform_fan_in(rngs.params(), (out_features,), in_features))

    def __call__(self, inputs: jax.Array) -> jax.Array:
        """(batch, in) -> (batch, out), in dtype."""
        kernel, bias = self.kernel[...].astype(self.dtype), self.bias[...].astype(self.dtype)
        return inputs.astype(self.dtype) @ kernel + bias


def global_average_pool(x: jax.Array) -> jax.Array:
    """(batch, height, width, features) -> (batch, features)."""
    return x.mean((1, 2))


def dropout(inputs: jax.Array, rate: float, key: jax.Array) -> jax.Array:
    """Zeroes each value with probability `rate` and divides the others by 1 - rate."""
    keep = jax.random.bernoulli(key, 1 - rate, inputs.shape)
    return jnp.where(keep, inputs / (1 - rate), 0)
