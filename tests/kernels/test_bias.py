"""Adding a bias, and its gradient."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxresnet.kernels.bias import add_bias

GENERATOR = np.random.default_rng(0)
X, GRADIENT = GENERATOR.standard_normal((2, 3, 36, 20, 5), np.float32)
BIAS = GENERATOR.standard_normal(5, np.float32)


@pytest.mark.parametrize(("dtype", "error"), [("float32", 1e-6), ("bfloat16", 0.01)])
def test_the_bias_is_added_and_its_gradient_is_the_sum_over_pixels(dtype, error):
    outputs, pull_back = jax.vjp(add_bias, jnp.asarray(X, dtype), jnp.asarray(BIAS))
    assert outputs.dtype == dtype
    np.testing.assert_allclose(outputs, X.astype(np.float64) + BIAS, atol=4 * error)
    of_x, of_bias = pull_back(jnp.asarray(GRADIENT, dtype))
    np.testing.assert_array_equal(of_x, jnp.asarray(GRADIENT, dtype))
    # In float32 whatever the activations' dtype: exact for the gradients that it is given.
    assert of_bias.dtype == jnp.float32
    given = np.asarray(of_x, np.float64)
    np.testing.assert_allclose(of_bias, given.sum((0, 1, 2)), rtol=1e-5, atol=1e-4)
