"""3x3 convolutions, stride 1, with less than half of the multiplications (Winograd 1980).

A convolution and its two gradients are the derivatives of one number: on each axis the sum of
g[i] k[j] x[i + j], for m outputs with gradient g, a kernel k of r values, and m + r - 1 pixels x.
The sums of g[i] k[j] with equal i + j are the coefficients of a product of two polynomials, and
those are known from m + r - 1 values of the product: with V the values of the powers at as many
points, the number is

    (V^-T x) . (V_m g * V_r k)

where * multiplies value by value, and V_m has the first m columns of V. It has m + r - 1 products
where the sum has m r. For images, with many features, each such product is a matrix product,
the rows of which are tiles of m x m outputs; V is applied to rows and columns, with additions.

For the outputs m is 2: 16 products for what are 36, and rounding no worse than the plain sum's.
For the kernel's gradient it is 4, 36 for 144: its rounding is some three times the plain one's,
with these points; with the usual whole numbers it would be ten times (Barabasz et al. 2020,
arXiv:1803.10986, on the choice of points).
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

Grid = list[list[jax.Array]]  # by row and column within a tile

_TAPS = 3


class _Tile(NamedTuple):
    """m outputs on an axis, and what their pixels, gradients and taps are multiplied by."""

    outputs: int  # m
    of_images: np.ndarray  # V^-T, (m + 2, m + 2)
    of_outputs: np.ndarray  # V_m, (m + 2, m)
    of_kernel: np.ndarray  # V_3, (m + 2, 3)


def _tile(outputs: int, points: Sequence[float]) -> _Tile:
    """points: all but one, which is infinity; a polynomial's value there is its last factor."""

    def powers(count: int) -> np.ndarray:
        infinity = np.eye(count)[-1:]
        return np.concatenate([np.vander(points, count, increasing=True), infinity])

    inverse = np.linalg.inv(powers(outputs + _TAPS - 1)).T
    inverse[np.abs(inverse) < 1e-12] = 0
    return _Tile(outputs, inverse, powers(outputs), powers(_TAPS))


_FOR_OUTPUTS = _tile(2, (0, 1, -1))
_FOR_KERNEL = _tile(4, (0, 3 / 4, -3 / 4, 3 / 2, -3 / 2))


# Compiled functions, for what calls them outside one, and for tracing equal layers once.
@partial(jax.jit, static_argnames=("padding", "transposed"))
def convolve(
    x: jax.Array, kernel: jax.Array, padding: int, *, transposed: bool = False
) -> jax.Array:
    """(batch, height, width, in), (3, 3, in, out) -> (batch, height', width', out), in float32.

    With zeros on all four sides, at most two. transposed: x has the kernel's out-features, and
    the outputs have its in-features.
    """
    tile, contracted = _FOR_OUTPUTS, int(transposed)
    height, width = (size + 2 * padding - (_TAPS - 1) for size in x.shape[1:3])
    images = _cut(x, padding, (height, width), tile.outputs, tile.outputs + _TAPS - 1)
    products = _multiply(
        lambda pixels, tap: lax.dot_general(pixels, tap, (((3,), (contracted,)), ((), ()))),
        _transform(tile.of_images, images),
        _transform(tile.of_kernel, [list(row) for row in kernel]),
    )
    rows = [jnp.stack(row, 3) for row in _transform(tile.of_outputs.T, products)]
    outputs = jnp.stack(rows, 2)
    batch, down, m, across, _, features = outputs.shape
    return outputs.reshape(batch, down * m, across * m, features)[:, :height, :width]


@partial(jax.jit, static_argnames="padding")
def kernel_gradient(x: jax.Array, g: jax.Array, padding: int) -> jax.Array:
    """(batch, height, width, in), (batch, height', width', out) -> (3, 3, in, out), in float32."""
    tile, outputs = _FOR_KERNEL, (g.shape[1], g.shape[2])
    images = _cut(x, padding, outputs, tile.outputs, tile.outputs + _TAPS - 1)
    products = _multiply(
        _sum_of_outer_products,
        _transform(tile.of_images, images),
        _transform(tile.of_outputs, _cut(g, 0, outputs, tile.outputs, tile.outputs)),
    )
    return jnp.stack([jnp.stack(row) for row in _transform(tile.of_kernel.T, products)])


def _cut(x: jax.Array, padding: int, outputs: tuple[int, int], step: int, size: int) -> Grid:
    """size x size pixels every step pixels, as many as cover the outputs; zeros around x.

    Each of the grid's arrays has the shape (batch, tiles down, tiles across, features).
    """
    tiles = [-(-count // step) for count in outputs]
    lasts = [(count - 1) * step for count in tiles]
    after = [last + size - n - padding for last, n in zip(lasts, x.shape[1:3], strict=True)]
    x = jnp.pad(x, ((0, 0), (padding, after[0]), (padding, after[1]), (0, 0)))
    return [
        [x[:, i : i + lasts[0] + 1 : step, j : j + lasts[1] + 1 : step] for j in range(size)]
        for i in range(size)
    ]


def _transform(matrix: np.ndarray, grid: Grid) -> Grid:
    """The matrix applied to the rows and to the columns of a grid."""
    rows = [_combine(matrix, row) for row in grid]
    columns = [_combine(matrix, column) for column in zip(*rows, strict=True)]
    return [list(row) for row in zip(*columns, strict=True)]


def _combine(matrix: np.ndarray, terms: Sequence[jax.Array]) -> list[jax.Array]:
    """The matrix applied to a vector of arrays. Its zeros cost nothing."""
    return [
        functools.reduce(
            operator.add,
            (float(factor) * term for factor, term in zip(row, terms, strict=True) if factor),
        )
        for row in matrix
    ]


def _multiply(product: Callable[[jax.Array, jax.Array], jax.Array], a: Grid, b: Grid) -> Grid:
    return [[product(*pair) for pair in zip(*rows, strict=True)] for rows in zip(a, b, strict=True)]


def _sum_of_outer_products(x: jax.Array, g: jax.Array) -> jax.Array:
    """(..., in), (..., out) -> (in, out)."""
    x, g = (values.reshape(-1, values.shape[-1]) for values in (x, g))
    return lax.dot_general(x, g, (((0,), (0,)), ((), ())))
