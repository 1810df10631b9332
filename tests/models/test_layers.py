"""Layers against plain NumPy in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxresnet import platform
from jaxresnet.models import layers
from jaxresnet.models.conv import Conv
from jaxresnet.models.layers import (
    BatchNorm,
    Linear,
    dropout,
    max_pool,
    normalise_batch,
    relu,
    relu_of_sum,
)

# Half a unit in the last place, or what several additions in float32 make of it.
ROUNDING = {"float32": 1e-6, "bfloat16": 2**-8}


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


@pytest.mark.parametrize(("kernel_size", "stride"), [(3, 1), (3, 2), (1, 1), (1, 2), (7, 2)])
@pytest.mark.parametrize("size", [8, 9])
def test_conv_is_cross_correlation_with_symmetric_padding(kernel_size, stride, size):
    conv = Conv(3, 5, kernel_size, stride=stride, use_bias=True, rngs=nnx.Rngs(0))
    images = np.random.default_rng(0).normal(size=(2, size, size, 3)).astype(np.float32)
    kernel, bias = np.asarray(conv.kernel[...], np.float64), conv.bias
    assert bias is not None
    expected = numpy_conv(images.astype(np.float64), kernel, stride, kernel_size // 2)
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


@pytest.mark.parametrize(("dtype", "bound"), [("float32", 1e-5), ("bfloat16", 2**-6)])
@pytest.mark.parametrize(("mean", "slice_values"), [(0.0, 2**16), (30.0, 36), (30.0, 1)])
def test_the_gradient_of_batch_norm_is_that_of_its_definition(
    dtype, bound, mean, slice_values, monkeypatch
):
    """Against the chain rule through the batch's mean and variance, in float64.

    Summed at once, in ten slices, and pixel by pixel.
    """
    monkeypatch.setattr(layers, "_SUMMED_VALUES", slice_values)
    generator = np.random.default_rng(0)
    x, g = generator.normal(mean, 2, (6, 5, 4, 3)), generator.normal(size=(6, 5, 4, 3))
    x, g = (np.asarray(jnp.asarray(v, dtype).astype(jnp.float32), np.float64) for v in (x, g))
    scale, bias = np.array([1.0, 2.0, -0.5]), np.array([0.0, 1.0, 3.0])
    _, backward = jax.vjp(
        lambda *arguments: normalise_batch(*arguments, jnp.dtype(dtype))[0],
        jnp.asarray(x, dtype),
        jnp.asarray(scale, jnp.float32),
        jnp.asarray(bias, jnp.float32),
    )
    found = backward(jnp.asarray(g, dtype))
    assert [value.dtype for value in found] == [jnp.dtype(dtype), jnp.float32, jnp.float32]

    count, axes = 6 * 5 * 4, (0, 1, 2)
    centred = x - x.mean(axes)
    inverse = (x.var(axes) + 1e-5) ** -0.5
    d_normalised = g * scale
    d_variance = (d_normalised * centred).sum(axes) * -0.5 * inverse**3
    d_mean = -(d_normalised * inverse).sum(axes) - d_variance * 2 * centred.mean(axes)
    dx = d_normalised * inverse + d_variance * 2 * centred / count + d_mean / count
    for ours, theirs in zip(
        found, (dx, (g * centred * inverse).sum(axes), g.sum(axes)), strict=True
    ):
        difference = np.abs(np.asarray(ours.astype(jnp.float32)) - theirs).max()
        assert difference <= bound * np.abs(theirs).max()


def test_relu_passes_gradients_where_its_output_is_positive():
    x = jnp.array([-2.0, -0.0, 0.0, 1e-30, 3.0])
    outputs, backward = jax.vjp(relu, x)
    np.testing.assert_array_equal(outputs, np.maximum(x, 0))
    np.testing.assert_array_equal(backward(jnp.full(5, 7.0))[0], [0, 0, 0, 7, 7])


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_relu_of_sum_is_relu_of_the_sum(dtype):
    generator = np.random.default_rng(0)
    x, y, g = (jnp.asarray(generator.normal(size=1000), dtype) for _ in range(3))
    outputs, backward = jax.vjp(relu_of_sum, x, y)
    np.testing.assert_array_equal(outputs, relu(x + y))
    wanted = jnp.where(x + y > 0, g, 0)
    for gradient in backward(g):
        np.testing.assert_array_equal(gradient, wanted)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_relu_of_sum_is_zero_where_the_sum_is_negative_in_a_whole_program(dtype):
    """Where XLA sees how x and y are made it may leave out their rounding, in one use of two."""
    generator = np.random.default_rng(0)
    x, y = (jnp.asarray(generator.normal(size=(8, 500)), jnp.float32) for _ in range(2))

    def block(x, y):
        return relu_of_sum((x * 1.25 + 0.5).astype(dtype), (y * 0.75 - 0.25).astype(dtype))

    def backward(x, y):
        outputs, pullback = jax.vjp(block, x, y)
        return outputs, *pullback(jnp.ones_like(outputs))

    run = jax.jit(backward, compiler_options=platform.compiler_options())
    outputs, dx, dy = (np.asarray(array.astype(jnp.float32)) for array in run(x, y))
    exact = np.asarray(x, np.float64) * 1.25 + 0.5 + np.asarray(y, np.float64) * 0.75 - 0.25
    rounding = 4 * ROUNDING[dtype] * (np.abs(x) + np.abs(y) + 1)
    assert np.all(np.abs(outputs - np.maximum(exact, 0)) <= rounding)
    negative = exact < -rounding
    assert negative.sum() > 1000
    for array in (outputs, dx, dy):
        assert not array[negative].any()


def test_residual_blocks_are_not_computed_again_in_those_that_follow():
    """What a program reads and writes grows with the blocks, not with their square."""

    def blocks(x, kernels):
        for kernel in kernels:
            y = x @ kernel
            x = relu_of_sum(y * 2 - 1, x)
        return x

    def bytes_accessed(count):
        shapes = [jax.ShapeDtypeStruct(s, jnp.float32) for s in ((512, 64), (count, 64, 64))]
        jitted = jax.jit(blocks, compiler_options=platform.compiler_options())
        return (jitted.lower(*shapes).compile().cost_analysis() or {})["bytes accessed"]

    assert bytes_accessed(16) < 2.2 * bytes_accessed(8)


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
    for place in np.ndindex(g.shape):
        image, row, column, feature = place
        window = padded[image, 2 * row : 2 * row + 3, 2 * column : 2 * column + 3, feature]
        expected[place] = window.max()
        first = np.unravel_index(window.argmax(), (3, 3))
        gradient[image, 2 * row + first[0], 2 * column + first[1], feature] += g[place]
    found, backward = jax.vjp(max_pool, jnp.asarray(x, dtype))
    np.testing.assert_array_equal(found.astype(jnp.float32), expected)
    inside = gradient[:, 1 : 1 + shape[1], 1 : 1 + shape[2]]
    ours = np.asarray(backward(jnp.asarray(g, dtype))[0].astype(jnp.float32), np.float64)
    np.testing.assert_allclose(ours, inside, rtol=ROUNDING[dtype], atol=1e-12)


def test_dropout_keeps_the_expected_value():
    kept = np.asarray(dropout(jnp.ones(100_000), 0.3, jax.random.key(0)))
    assert set(np.unique(kept)) == {0.0, np.float32(1 / 0.7)}
    # The share of zeros has a standard deviation of 0.0014: this bound is seven of them.
    assert (kept == 0).mean() == pytest.approx(0.3, abs=0.01)
