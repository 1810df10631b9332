"""Max pooling against its definition in NumPy float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxresnet.kernels.pooling import max_pool

ROUNDING = {"float32": 1e-6, "bfloat16": 2**-8}  # of a sum of four gradients


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("shape", [(2, 7, 6, 3), (1, 8, 5, 2), (2, 1, 2, 1)])
def test_max_pool_and_its_gradient_by_their_definition(shape, dtype):
    """Few different values, so that windows have equal ones; below the border's zeros, if any."""
    generator = np.random.default_rng(0)
    x = generator.integers(-4, 0, shape).astype(np.float64)
    rows, columns = -(-shape[1] // 2), -(-shape[2] // 2)
    g = generator.normal(size=(shape[0], rows, columns, shape[3]))
    g = np.asarray(jnp.asarray(g, dtype).astype(jnp.float32), np.float64)
    padded = np.pad(x, ((0, 0), (1, 2), (1, 2), (0, 0)), constant_values=-np.inf)
    expected, gradient = np.zeros_like(g), np.zeros_like(padded)
    for index in np.ndindex(g.shape):
        image, row, column, feature = index
        window = padded[image, 2 * row : 2 * row + 3, 2 * column : 2 * column + 3, feature]
        expected[index] = window.max()
        first = np.unravel_index(window.argmax(), (3, 3))
        gradient[image, 2 * row + first[0], 2 * column + first[1], feature] += g[index]
    outputs, backward = jax.vjp(max_pool, jnp.asarray(x, dtype))
    np.testing.assert_array_equal(outputs.astype(jnp.float32), expected)
    inside = gradient[:, 1 : 1 + shape[1], 1 : 1 + shape[2]]
    actual = np.asarray(backward(jnp.asarray(g, dtype))[0].astype(jnp.float32), np.float64)
    np.testing.assert_allclose(actual, inside, rtol=ROUNDING[dtype], atol=1e-12)
