"""Layers against plain NumPy in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxresnet.kernels.conv import CONVOLUTIONS, plain_conv
from jaxresnet.models.layers import BatchNorm, Conv, Linear, dropout, uniform_fan_in


def numpy_conv(images: np.ndarray, kernel: np.ndarray, stride: int, padding: int) -> np.ndarray:
    """Cross-correlation by its definition."""
    images = np.pad(images, ((0, 0), (padding, padding), (padding, padding), (0, 0)))
    size = kernel.shape[0]
    height = (images.shape[1] - size) // stride + 1
    width = (images.shape[2] - size) // stride + 1
    output = np.zeros((len(images), height, width, kernel.shape[3]))
    for row in range(height):
        for column in range(width):
            top, left = row * stride, column * stride
            window = images[:, top : top + size, left : left + size, :]
            output[:, row, column, :] = np.einsum("bhwi,hwio->bo", window, kernel)
    return output


@pytest.mark.parametrize(
    ("kernel_size", "stride", "padding"),
    [(3, 1, 1), (3, 2, 1), (1, 1, 0), (1, 2, 0), (7, 2, 3), (4, 4, 0), (3, 1, 2)],
)
@pytest.mark.parametrize("size", [8, 9])
def test_conv_is_cross_correlation_with_symmetric_padding(kernel_size, stride, padding, size):
    conv = Conv(3, 5, kernel_size, stride=stride, padding=padding, use_bias=True, rngs=nnx.Rngs(0))
    images = np.random.default_rng(0).normal(size=(2, size, size, 3)).astype(np.float32)
    kernel, bias = np.asarray(conv.kernel[...], np.float64), conv.bias
    assert bias is not None
    expected = numpy_conv(images.astype(np.float64), kernel, stride, padding)
    expected = expected + np.asarray(bias[...], np.float64)
    np.testing.assert_allclose(conv(jnp.asarray(images)), expected, rtol=1e-5, atol=1e-5)


def test_initial_weights_are_uniform_within_the_fan_in_bound():
    conv = Conv(64, 128, 3, use_bias=True, rngs=nnx.Rngs(0))
    bound = (9 * 64) ** -0.5
    kernel = np.asarray(conv.kernel[...])
    assert np.abs(kernel).max() <= bound
    # Of 73,728 draws the extremes come within a thousandth of the bound, and the sample
    # variance within 2% of bound^2 / 3 (five standard errors are 1.65%).
    assert np.abs(kernel).max() > 0.999 * bound
    assert kernel.var() == pytest.approx(bound**2 / 3, rel=0.02)
    linear = Linear(512, 10, rngs=nnx.Rngs(0))
    for values in (linear.kernel[...], linear.bias[...]):
        assert np.abs(np.asarray(values)).max() <= 512**-0.5


def test_initial_weights_depend_on_the_seed():
    first, again, other = (Conv(3, 4, 3, rngs=nnx.Rngs(seed)).kernel[...] for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_batch_norm_normalises_and_averages_as_pytorch_does():
    norm = BatchNorm(4)
    norm.scale[...] = jnp.array([1.0, 2.0, 0.5, -1.0])
    norm.bias[...] = jnp.array([0.0, 1.0, -1.0, 3.0])
    running_mean, running_variance = np.zeros(4), np.ones(4)
    generator = np.random.default_rng(0)
    for _ in range(3):
        inputs = generator.normal(5, 2, (6, 3, 3, 4)).astype(np.float32)
        outputs = norm(jnp.asarray(inputs), train=True)
        values = inputs.astype(np.float64)
        mean, variance = values.mean((0, 1, 2)), values.var((0, 1, 2))
        expected = (values - mean) / np.sqrt(variance + 1e-5)
        expected = expected * np.array([1, 2, 0.5, -1]) + np.array([0, 1, -1, 3])
        np.testing.assert_allclose(outputs, expected, rtol=1e-5, atol=1e-5)
        running_mean = 0.9 * running_mean + 0.1 * mean
        running_variance = 0.9 * running_variance + 0.1 * values.var((0, 1, 2), ddof=1)
    np.testing.assert_allclose(norm.mean[...], running_mean, rtol=1e-5)
    np.testing.assert_allclose(norm.variance[...], running_variance, rtol=1e-5)

    inputs = generator.normal(size=(2, 3, 3, 4)).astype(np.float32)
    outputs = norm(jnp.asarray(inputs), train=False)
    expected = (inputs - running_mean) / np.sqrt(running_variance + 1e-5)
    expected = expected * np.array([1, 2, 0.5, -1]) + np.array([0, 1, -1, 3])
    np.testing.assert_allclose(outputs, expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(norm.mean[...], running_mean, rtol=1e-5)


def test_batch_norm_keeps_float32_statistics_of_bfloat16_inputs():
    norm = BatchNorm(2, dtype=jnp.bfloat16)
    outputs = norm(jnp.ones((4, 2, 2, 2), jnp.bfloat16), train=True)
    assert outputs.dtype == jnp.bfloat16
    assert norm.mean[...].dtype == norm.variance[...].dtype == jnp.float32


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_the_convolution_can_be_chosen(name, monkeypatch):
    calls = []

    def note(*arguments):
        calls.append(arguments)
        return plain_conv(*arguments)

    monkeypatch.setitem(CONVOLUTIONS, name, note)
    Conv(3, 4, 3, convolution=name, rngs=nnx.Rngs(0))(jnp.ones((1, 4, 4, 3)))
    assert len(calls) == (jax.default_backend() == "cpu")


def test_dropout_keeps_the_expected_value():
    kept = np.asarray(dropout(jnp.ones(100_000), 0.3, jax.random.key(0)))
    assert set(np.unique(kept)) == {0.0, np.float32(1 / 0.7)}
    # The share of zeros has a standard deviation of 0.0014: this bound is seven of them.
    assert (kept == 0).mean() == pytest.approx(0.3, abs=0.01)


def test_weights_are_the_same_whether_they_are_drawn_at_once_or_in_a_program():
    def draw(key: jax.Array) -> jax.Array:
        return uniform_fan_in(key, (3, 4), fan_in=9)

    key = jax.random.key(5)
    np.testing.assert_array_equal(jax.jit(draw)(key), draw(key))
    assert jax.eval_shape(draw, key) == jax.ShapeDtypeStruct((3, 4), jnp.float32)
