"""Rectifiers against NumPy, alone and in whole programs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxresnet import platform
from jaxresnet.kernels.activation import relu, relu_of_sum

ROUNDING = {"float32": 1e-6, "bfloat16": 2**-8}  # what a few operations make of it


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
