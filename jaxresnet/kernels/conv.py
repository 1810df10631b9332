"""The 2-D convolution of NHWC images, and gradients of it that are written for a CPU.

On a CPU most of a training step is convolutions, and the gradients that JAX derives for them are
two to four times as slow as the forward pass. `fast_conv` writes both gradients as what a
CPU's convolutions and matrix products are good at:

- In float32, 3x3 convolutions with stride 1 and enough features and pixels use Winograd's
  algorithm, which multiplies less than half as often: see winograd.py. What follows is for all
  others: in bfloat16, which has too few bits for it, with strides, other kernels, few features.
- The images' gradient is itself a convolution, with the kernel turned round. With stride s it is
  s * s of them, interleaved: a pixel's position modulo s decides which taps of the kernel it
  meets. JAX instead spreads the outputs' gradient out with zeros and multiplies those too.
- The kernel's gradient sums x^T g, for each tap, over all pixels and images. JAX writes it as one
  convolution over the whole batch, which reads the activations from memory many times over. Here
  it is summed over slices of the batch that stay in the caches. Where XLA has oneDNN, each is a 3-D
  convolution: depth and height are the images', the in-features lie along the width, the images
  of the slice are the features that are summed, and g is the kernel. So the two long axes of a
  small matrix product are in- and out-features, where 2-D convolution has a width of three taps.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxresnet import platform
from jaxresnet.kernels import winograd
from jaxresnet.kernels.sums import largest_divisor, sum_of_outer_products

Padding = tuple[tuple[int, int], tuple[int, int]]  # before and after, for rows and for columns

# A slice of the batch holds at least so many values, a megabyte or two, and so many images:
# fewer are too few features to sum over.
_SLICE_VALUES = 2**19
_SLICE_IMAGES = 8

# Where Winograd's algorithm is faster, with oneDNN and without, as measured on two threads of a
# Zen 4. With fewer features its additions cost more than the multiplications that it saves.
_WINOGRAD_FEATURES = {True: 256, False: 128}
_WINOGRAD_KERNEL_FEATURES = {True: 64, False: 128}
# With fewer pixels (batch * height * width) transforming the kernel is not repaid.
_WINOGRAD_PIXELS = 2048
# Its kernel's gradient is summed over slices of so many values: 64 features took 48 ms in eight
# slices and 93 ms at once.
_WINOGRAD_SLICE_VALUES = 2**20


def plain_conv(x: jax.Array, kernel: jax.Array, stride: int, padding: int) -> jax.Array:
    """(batch, height, width, in), (size, size, in, out) -> (batch, height', width', out).

    Zeros are put on all four sides alike: XLA's 'SAME' pads stride-2 convolutions on one side
    only, which PyTorch does not.
    """
    return _convolve(x, kernel, stride, ((padding, padding), (padding, padding)))


def _fast_conv(x: jax.Array, kernel: jax.Array, stride: int, padding: int) -> jax.Array:
    """plain_conv but for rounding, with gradients written for a CPU. Reverse mode only."""
    if _suits_winograd(x, kernel, stride, padding, _WINOGRAD_FEATURES):
        return winograd.convolve(x, kernel, padding)
    return plain_conv(x, kernel, stride, padding)


fast_conv = jax.custom_vjp(_fast_conv, nondiff_argnums=(2, 3))

# How a convolution and its gradients are computed on a CPU.
CONVOLUTIONS: dict[str, Callable[[jax.Array, jax.Array, int, int], jax.Array]] = {
    "fast": fast_conv,
    "plain": plain_conv,
}


def _forward(
    x: jax.Array, kernel: jax.Array, stride: int, padding: int
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return fast_conv(x, kernel, stride, padding), (x, kernel)


def _backward(
    stride: int, padding: int, residuals: tuple[jax.Array, jax.Array], g: jax.Array
) -> tuple[jax.Array, jax.Array]:
    x, kernel = residuals
    if _suits_winograd(x, kernel, stride, padding, _WINOGRAD_FEATURES):
        # With the turned kernel, and with zeros that bring back the images' size.
        dx = winograd.convolve(g, kernel[::-1, ::-1], 2 - padding, transposed=True)
    else:
        dx = _image_gradient(g, kernel, x.shape, stride, padding)
    if _suits_winograd(x, kernel, stride, padding, _WINOGRAD_KERNEL_FEATURES):
        dk = _winograd_kernel_gradient(x, g, kernel.shape, padding)
    else:
        dk = _kernel_gradient(x, g, kernel.shape, stride, padding)
    return dx, dk


fast_conv.defvjp(_forward, _backward)


def _suits_winograd(
    x: jax.Array, kernel: jax.Array, stride: int, padding: int, fewest_features: dict[bool, int]
) -> bool:
    return (
        kernel.shape[:2] == (3, 3)
        and stride == 1
        and padding <= 2
        and kernel.dtype == jnp.float32
        and x.size // x.shape[-1] >= _WINOGRAD_PIXELS
        and min(kernel.shape[2:]) >= fewest_features[platform.has_onednn("float32")]
    )


def _winograd_kernel_gradient(
    x: jax.Array, g: jax.Array, shape: tuple[int, ...], padding: int
) -> jax.Array:
    """In a loop over slices of the batch: unrolled, there would be many products to compile."""
    slices = largest_divisor(x.shape[0], x.size // _WINOGRAD_SLICE_VALUES)
    if slices == 1:
        return winograd.kernel_gradient(x, g, padding)
    xs, gs = (values.reshape(slices, -1, *values.shape[1:]) for values in (x, g))

    def add(total: jax.Array, pair: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, None]:
        return total + winograd.kernel_gradient(*pair, padding), None

    return lax.scan(add, jnp.zeros(shape, x.dtype), (xs, gs))[0]


def _convolve(x: jax.Array, kernel: jax.Array, stride: int, padding: Padding) -> jax.Array:
    if kernel.shape[-1] == 1 and platform.has_onednn(x.dtype.name):
        # XLA 0.12 gives oneDNN a product with a single output wrongly: compute it twice.
        return _convolve(x, jnp.concatenate([kernel, kernel], -1), stride, padding)[..., :1]
    return lax.conv_general_dilated(
        x, kernel, (stride, stride), padding, dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def _image_gradient(
    g: jax.Array, kernel: jax.Array, shape: tuple[int, ...], stride: int, padding: int
) -> jax.Array:
    """Pixel i took part in output o by tap t where i + padding = stride * o + t, on each axis.

    So the pixels stride * m + phase meet only every stride-th tap, and are a convolution of
    their own.
    """
    if kernel.shape[:2] == (1, 1) and stride == 1 and padding == 0:
        # A product can sum over the kernel's out-features where they lie; a convolution first
        # needs the kernel transposed, which takes as long as its multiplications.
        return lax.dot_general(g, kernel[0, 0], (((3,), (1,)), ((), ())))
    batch, height, width, features = shape
    rows, columns = -(-height // stride), -(-width // stride)

    def convolve(row_phase: int, column_phase: int) -> jax.Array:
        row_shift, first_row = divmod(row_phase + padding, stride)
        column_shift, first_column = divmod(column_phase + padding, stride)
        taps = kernel[first_row::stride, first_column::stride]
        if taps.size == 0:
            return jnp.zeros((batch, rows, columns, features), g.dtype)
        # The barrier keeps XLA from folding the reversal into the convolution, a form that oneDNN
        # is not given.
        turned = lax.optimization_barrier(taps[::-1, ::-1].swapaxes(2, 3))
        top, left = taps.shape[0] - 1 - row_shift, taps.shape[1] - 1 - column_shift
        bottom, right = rows - g.shape[1] + row_shift, columns - g.shape[2] + column_shift
        return _convolve(g, turned, 1, ((top, bottom), (left, right)))

    if stride == 1:
        return convolve(0, 0)
    phases = [jnp.stack([convolve(r, c) for c in range(stride)], 3) for r in range(stride)]
    interleaved = jnp.stack(phases, 2).reshape(batch, rows * stride, columns * stride, features)
    return interleaved[:, :height, :width]


def _kernel_gradient(
    x: jax.Array, g: jax.Array, shape: tuple[int, ...], stride: int, padding: int
) -> jax.Array:
    """For each tap the sum of x^T g over all images and all pixels that meet there.

    With a single tap that is one matrix product. Slices are equal, so a batch that no number up
    to the wanted one divides is not sliced.
    """
    if shape[0] == 1 and padding == 0:
        return sum_of_outer_products(x[:, ::stride, ::stride], g).reshape(shape)
    batch = x.shape[0]
    slices = largest_divisor(batch, min(x.size // _SLICE_VALUES, batch // _SLICE_IMAGES))
    xs, gs = (t.reshape(slices, -1, *t.shape[1:]) for t in (x, g))
    high = [
        (outputs - 1) * stride + size - inputs - padding
        for inputs, outputs, size in zip(x.shape[1:3], g.shape[1:3], shape[:2], strict=True)
    ]
    wide = np.promote_types(x.dtype, np.float32)
    total = jnp.zeros(shape, wide)
    for xi, gi in zip(xs, gs, strict=True):
        part = _convolve_images_away(xi, gi, stride, ((padding, high[0]), (padding, high[1])))
        # Without the barrier XLA would do the whole convolution in float32.
        total += lax.optimization_barrier(part).astype(wide)
    return total.astype(x.dtype)


def _convolve_images_away(x: jax.Array, g: jax.Array, dilation: int, padding: Padding) -> jax.Array:
    """(images, height, width, in), (images, height', width', out) -> (size, size, in, out).

    For oneDNN the in-features are the width of a 3-D convolution with kernels of width 1.
    """
    if not platform.has_onednn(x.dtype.name):
        axes, dilations = ("CHWN", "IHWO", "HWNC"), (dilation, dilation)
        return lax.conv_general_dilated(
            x, g, (1, 1), padding, rhs_dilation=dilations, dimension_numbers=axes
        )
    axes, dilations = ("NDHWC", "DHWIO", "NDHWC"), (dilation, dilation, 1)
    x, g = x.transpose(1, 2, 3, 0)[None], g.transpose(1, 2, 0, 3)[:, :, None]
    return lax.conv_general_dilated(
        x, g, (1, 1, 1), (*padding, (0, 0)), rhs_dilation=dilations, dimension_numbers=axes
    )[0]
