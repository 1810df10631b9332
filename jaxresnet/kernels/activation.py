"""Rectifiers whose gradients are taken from their outputs, which the next layer keeps anyway."""

import jax
import jax.numpy as jnp
import numpy as np


@jax.custom_vjp
def relu(x: jax.Array) -> jax.Array:
    """max(x, 0). Reverse mode only."""
    return jnp.maximum(x, 0)


relu.defvjp(lambda x: (relu(x),) * 2, lambda y, g: (jnp.where(y > 0, g, 0),))


@jax.custom_vjp
def relu_of_sum(x: jax.Array, y: jax.Array) -> jax.Array:
    """max(x + y, 0), for finite values of equal shape and dtype. Reverse mode only.

    Written as max(x, -y) + y, the same number. An expression with one large operand, such as
    max(sum, 0), is computed again by XLA in each fusion that reads it, so that the last of a row
    of residual blocks would begin at the first. y must not end in a multiplication, which XLA may
    fuse with the addition, unrounded: a batch norm, a convolution or a block's output do not.

    Both are widened first, since XLA adds bfloat16 in float32, and may then add y as it was before
    it was rounded: the rounded -y would leave a remainder instead of 0.
    """
    wide = np.promote_types(x.dtype, np.float32)
    if wide != x.dtype:
        # The same y. But XLA computes a maximum in bfloat16; without one it hands the sum from
        # block to block in float32, which it writes to memory too.
        y = jnp.maximum(y, jnp.finfo(y.dtype).min)
    wide_x, wide_y = x.astype(wide), y.astype(wide)
    return (jnp.maximum(wide_x, -wide_y) + wide_y).astype(x.dtype)


relu_of_sum.defvjp(
    lambda x, y: (relu_of_sum(x, y),) * 2,
    lambda z, g: (jnp.where(z > 0, g, 0),) * 2,
)
