"""Winograd's convolutions: 3x3, stride 1, with less than half of the multiplications.

On one axis a convolution has m outputs, a kernel k of r taps, and reads m + r - 1 pixels x. With g
the gradient of the outputs, the outputs and both gradients are the derivatives of one number,

    the sum over i < m, j < r of g[i] k[j] x[i + j],

by g, by k and by x. The sums of g[i] k[j] with equal i + j are the coefficients of a product of two
polynomials, and m + r - 1 values of that product determine them. Let V_n take n coefficients to
the polynomial's values at m + r - 1 points, and V be V_(m + r - 1). Then the number is

    (V^-T x) . (V_m g * V_r k)

with * elementwise: m + r - 1 products for m r. One of the points is infinity, where a polynomial's
"value" is its leading coefficient. Lavin and Gray (2016, arXiv:1509.09308), who brought this to
neural networks, write B^T, A and G for V^-T, V_m and V_r, and F(m x m, r x r) for the whole. On
images the transforms apply to the rows and then to the columns of tiles, and each elementwise
product becomes a matrix product over the features, with a row for each tile.

Outputs, and the images' gradients, are taken 2x2 at a time: 16 products for 36. The kernel's
gradient takes 4x4 of them: 36 for 144. Against float64, with 64 to 512 features, the root mean
square of the rounding is 0.7 to 2.1 times the plain sum's for the former, and 1.8 to 4 times for
the latter: with the points 0, 1, -1, 2, -2, which are usual, it is 3.7 to 8.4 times. (On the
choice of points: Barabasz and others 2020, arXiv:1803.10986.)
"""

import functools
import operator
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxresnet.kernels.sums import sum_of_outer_products

Grid = list[list[jax.Array]]  # by row and column within a tile

_TAPS = 3


class _Transforms(NamedTuple):
    """m outputs on an axis, and the matrices for their pixels, gradients and taps."""

    outputs: int  # m
    of_images: np.ndarray  # V^-T, (m + 2, m + 2)
    of_gradients: np.ndarray  # V_m, (m + 2, m)
    of_kernel: np.ndarray  # V_3, (m + 2, 3)


def _transforms(outputs: int, points: Sequence[float]) -> _Transforms:
    """points: all but infinity. V^-1 has the coefficients of Lagrange's polynomials.

    Their denominators are left to the kernel, which is small.
    """

    def values(count: int) -> np.ndarray:
        return np.vstack([np.vander(points, count, increasing=True), np.eye(count)[-1]])

    others = [[q for q in points if q != p] for p in points]
    numerators = [*(np.append(np.poly(q)[::-1], 0) for q in others), np.poly(points)[::-1]]
    denominators = [*(np.prod(p - np.array(q)) for p, q in zip(points, others, strict=True)), 1]
    kernel = values(_TAPS) / np.array(denominators)[:, None]
    return _Transforms(outputs, np.array(numerators), values(outputs), kernel)


_FOR_OUTPUTS = _transforms(2, (0, 1, -1))
_FOR_KERNEL = _transforms(4, (0, 3 / 4, -3 / 4, 3 / 2, -3 / 2))


# Both are compiled, for callers that are not: there they would run operation by operation. Within
# a compiled step equal layers are so traced once.
@partial(jax.jit, static_argnames=("padding", "transposed"))
def convolve(
    x: jax.Array, kernel: jax.Array, padding: int, *, transposed: bool = False
) -> jax.Array:
    """(batch, height, width, in), (3, 3, in, out) -> (batch, height', width', out).

    In the dtype of both, float32 or wider; bfloat16 has too few bits. padding: zeros on each side,
    at most two, that leave at least one output. transposed: sums over the kernel's out-features, as
    the images' gradient does.
    """
    transforms, summed = _FOR_OUTPUTS, int(transposed)
    height, width = (size + 2 * padding - (_TAPS - 1) for size in x.shape[1:3])
    m = transforms.outputs
    products = _multiply_elementwise(
        lambda pixels, tap: lax.dot_general(pixels, tap, (((3,), (summed,)), ((), ()))),
        _apply(transforms.of_images, _tiles(x, padding, (height, width), m, m + _TAPS - 1)),
        _apply(transforms.of_kernel, [list(row) for row in kernel]),
    )
    rows = [jnp.stack(row, 3) for row in _apply(transforms.of_gradients.T, products)]
    outputs = jnp.stack(rows, 2)
    batch, down, _, across, _, features = outputs.shape
    return outputs.reshape(batch, down * m, across * m, features)[:, :height, :width]


@partial(jax.jit, static_argnames="padding")
def kernel_gradient(x: jax.Array, g: jax.Array, padding: int) -> jax.Array:
    """(batch, height, width, in), (batch, height', width', out) -> (3, 3, in, out).

    g is the gradient of convolve's outputs; dtypes and padding as there.
    """
    transforms, outputs = _FOR_KERNEL, (g.shape[1], g.shape[2])
    m = transforms.outputs
    products = _multiply_elementwise(
        sum_of_outer_products,
        _apply(transforms.of_images, _tiles(x, padding, outputs, m, m + _TAPS - 1)),
        _apply(transforms.of_gradients, _tiles(g, 0, outputs, m, m)),
    )
    return jnp.stack([jnp.stack(row) for row in _apply(transforms.of_kernel.T, products)])


def _tiles(x: jax.Array, padding: int, outputs: tuple[int, int], step: int, size: int) -> Grid:
    """The pixels of tiles of size x size, step apart, as many as cover the outputs.

    Each array has the pixels at one position of all tiles: (batch, tiles down, tiles across,
    features). Around x are zeros.
    """
    counts = [-(-count // step) for count in outputs]
    lasts = [(count - 1) * step for count in counts]
    after = [last + size - n - padding for last, n in zip(lasts, x.shape[1:3], strict=True)]
    x = jnp.pad(x, ((0, 0), (padding, after[0]), (padding, after[1]), (0, 0)))
    return [
        [x[:, i : i + lasts[0] + 1 : step, j : j + lasts[1] + 1 : step] for j in range(size)]
        for i in range(size)
    ]


def _apply(matrix: np.ndarray, grid: Grid) -> Grid:
    """The matrix applied to the rows and then to the columns of a grid."""
    rows = [_apply_to_vector(matrix, row) for row in grid]
    columns = [_apply_to_vector(matrix, column) for column in zip(*rows, strict=True)]
    return [list(row) for row in zip(*columns, strict=True)]


def _apply_to_vector(matrix: np.ndarray, vector: Sequence[jax.Array]) -> list[jax.Array]:
    """A product of matrix and vector whose zeros cost nothing."""
    return [
        functools.reduce(
            operator.add,
            (float(factor) * term for factor, term in zip(row, vector, strict=True) if factor),
        )
        for row in matrix
    ]


def _multiply_elementwise(
    product: Callable[[jax.Array, jax.Array], jax.Array], a: Grid, b: Grid
) -> Grid:
    return [[product(*pair) for pair in zip(*rows, strict=True)] for rows in zip(a, b, strict=True)]
