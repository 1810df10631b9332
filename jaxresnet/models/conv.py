"""The 2-D convolution, as PyTorch defines and initialises it, on NHWC images."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.typing import DTypeLike


def uniform_fan_in(key: jax.Array, shape: tuple[int, ...], fan_in: int) -> jax.Array:
    """Draws from U(-1/sqrt(fan_in), 1/sqrt(fan_in)) in float32.

    This is what torch.nn.Conv2d and torch.nn.Linear do by default, for weights and biases
    alike: kaiming_uniform_ with a = sqrt(5) has gain sqrt(1/3), hence this bound.

    NumPy draws on the host, from a generator keyed by `key`: the same weights on every device,
    and nothing to compile, which takes ten seconds for all the shapes of a ResNet-18.
    """
    generator = np.random.Generator(np.random.Philox(key=np.asarray(jax.random.key_data(key))))
    bound = np.float32(fan_in**-0.5)
    return jnp.asarray((2 * generator.random(shape, np.float32) - 1) * bound)


class Conv(nnx.Module):
    """Square convolution with symmetric zero padding of kernel_size // 2.

    The padding is explicit because XLA's 'SAME' pads stride-2 convolutions on one side only,
    which PyTorch does not. The kernel has shape (height, width, in, out).
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        kernel_size: int,
        *,
        stride: int = 1,
        use_bias: bool = False,
        dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ):
        self.stride = stride
        self.kernel_size = kernel_size
        self.dtype = dtype
        fan_in = kernel_size * kernel_size * in_features
        shape = (kernel_size, kernel_size, in_features, out_features)
        self.kernel = nnx.Param(uniform_fan_in(rngs.params(), shape, fan_in))
        self.bias = (
            nnx.Param(uniform_fan_in(rngs.params(), (out_features,), fan_in)) if use_bias else None
        )

    def __call__(self, images: jax.Array) -> jax.Array:
        """(batch, height, width, in) -> (batch, height / stride, width / stride, out), in dtype."""
        padding = self.kernel_size // 2
        outputs = jax.lax.conv_general_dilated(
            images.astype(self.dtype),
            self.kernel[...].astype(self.dtype),
            window_strides=(self.stride, self.stride),
            padding=[(padding, padding), (padding, padding)],
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )
        if self.bias is not None:
            outputs = outputs + self.bias[...].astype(self.dtype)
        return outputs
