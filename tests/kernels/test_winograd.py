"""Winograd's convolutions against the plain sum in float64."""

import jax
import numpy as np
import pytest

from jaxresnet.kernels import winograd
from jaxresnet.kernels.conv import plain_conv


def plain(arrays, padding):
    x, kernel, g = arrays
    outputs, backward = jax.vjp(lambda x, k: plain_conv(x, k, 1, padding), x, kernel)
    return [np.asarray(value) for value in (outputs, *backward(g))]


def by_winograd(arrays, padding):
    x, kernel, g = arrays
    turned = kernel[::-1, ::-1]
    return (
        np.asarray(winograd.convolve(x, kernel, padding)),
        np.asarray(winograd.convolve(g, turned, 2 - padding, transposed=True)),
        np.asarray(winograd.kernel_gradient(x, g, padding)),
    )


@pytest.mark.parametrize(
    ("height", "width", "padding"),
    [(1, 1, 1), (1, 2, 2), (3, 3, 0), (4, 7, 0), (8, 5, 1)],
)
def test_winograd_is_exact_but_for_rounding(height, width, padding):
    """In float64, where the plain sum's own rounding does not hide a wrong factor."""
    outputs = (height + 2 * padding - 2, width + 2 * padding - 2)
    generator = np.random.default_rng(0)
    shapes = ((2, height, width, 5), (3, 3, 5, 4), (2, *outputs, 4))
    arrays = [generator.normal(size=shape) for shape in shapes]
    with jax.enable_x64(True):
        pairs = zip(by_winograd(arrays, padding), plain(arrays, padding), strict=True)
        for actual, expected in pairs:
            bound = 1e-13 * np.abs(expected).max()
            np.testing.assert_allclose(actual, expected, rtol=0, atol=bound)


@pytest.mark.parametrize("features", [64, 256])
def test_winograd_rounds_little_more_than_the_plain_sum(features):
    """Root mean squares against float64: outputs, images' and kernels' gradients.

    With the points 0, 1, -1, 2, -2 the last would be 3.7 times the plain sum's.
    """
    generator = np.random.default_rng(0)
    shapes = ((8, 8, 8, features), (3, 3, features, features), (8, 8, 8, features))
    arrays = [generator.normal(size=shape).astype(np.float32) for shape in shapes]
    with jax.enable_x64(True):
        exact = plain([array.astype(np.float64) for array in arrays], 1)

    def errors(arrays):
        return [np.sqrt(np.square(a - b).mean()) for a, b in zip(arrays, exact, strict=True)]

    ratios = np.array(errors(by_winograd(arrays, 1))) / errors(plain(arrays, 1))
    assert (ratios <= (2, 2, 3)).all()
