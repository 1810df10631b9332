"""Batch normalisation's gradient against NumPy in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxresnet.kernels import norm, sums


@pytest.mark.parametrize(("dtype", "bound"), [("float32", 1e-5), ("bfloat16", 2**-6)])
@pytest.mark.parametrize(("mean", "slice_values"), [(0.0, 2**16), (30.0, 36), (30.0, 1)])
def test_the_gradient_of_batch_norm_is_that_of_its_definition(
    dtype, bound, mean, slice_values, monkeypatch
):
    """Against the chain rule through the batch's mean and variance, in float64.

    Summed at once, in ten slices, and pixel by pixel.
    """
    monkeypatch.setattr(sums, "_SUMMED_VALUES", slice_values)
    generator = np.random.default_rng(0)
    x, g = generator.normal(mean, 2, (6, 5, 4, 3)), generator.normal(size=(6, 5, 4, 3))
    x, g = (np.asarray(jnp.asarray(v, dtype).astype(jnp.float32), np.float64) for v in (x, g))
    scale, bias = np.array([1.0, 2.0, -0.5]), np.array([0.0, 1.0, 3.0])
    _, backward = jax.vjp(
        lambda *arguments: norm.normalise_batch(*arguments, jnp.dtype(dtype))[0],
        jnp.asarray(x, dtype),
        jnp.asarray(scale, jnp.float32),
        jnp.asarray(bias, jnp.float32),
    )
    gradients = backward(jnp.asarray(g, dtype))
    assert [value.dtype for value in gradients] == [jnp.dtype(dtype), jnp.float32, jnp.float32]

    count, axes = 6 * 5 * 4, (0, 1, 2)
    centred = x - x.mean(axes)
    inverse = (x.var(axes) + 1e-5) ** -0.5
    d_normalised = g * scale
    d_variance = (d_normalised * centred).sum(axes) * -0.5 * inverse**3
    d_mean = -(d_normalised * inverse).sum(axes) - d_variance * 2 * centred.mean(axes)
    dx = d_normalised * inverse + d_variance * 2 * centred / count + d_mean / count
    exact = (dx, (g * centred * inverse).sum(axes), g.sum(axes))
    for actual, expected in zip(gradients, exact, strict=True):
        difference = np.abs(np.asarray(actual.astype(jnp.float32)) - expected).max()
        assert difference <= bound * np.abs(expected).max()
