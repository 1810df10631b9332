"""Max pooling with slices: XLA's own windows are slow on a CPU, and their gradient more so."""

import functools
import operator

import jax
import jax.numpy as jnp
import numpy as np


@jax.custom_vjp
def max_pool(x: jax.Array) -> jax.Array:
    """The largest of 3x3 windows two apart; the border is padded with what never wins.

    (batch, height, width, features) -> (batch, ceil(height / 2), ceil(width / 2), features).
    For finite values: the first of equal ones in a window gets the gradient, as in PyTorch.
    Reverse mode only.
    """
    return functools.reduce(jnp.maximum, _window_values(x))


def _window_values(x: jax.Array) -> list[jax.Array]:
    """The nine values of each window, row by row. The padded size is even: see the gradient."""
    rows, columns = ((1, 1 + size % 2) for size in x.shape[1:3])
    x = jnp.pad(x, ((0, 0), rows, columns, (0, 0)), constant_values=-jnp.inf)
    _, height, width, _ = x.shape
    return [x[:, i : height - 2 + i : 2, j : width - 2 + j : 2] for i in range(3) for j in range(3)]


def _gradient(x: jax.Array, g: jax.Array) -> tuple[jax.Array]:
    """A pixel lies in one, two or four windows, and has the gradients of those that it wins.

    Which taps of windows a pixel can be depends on whether its row and its column are even or odd:
    four phases, interleaved.
    """
    wide = np.promote_types(x.dtype, np.float32)  # gradients are added, and rounded once
    values, g = _window_values(x.astype(wide)), g.astype(wide)
    largest, winner = values[0], jnp.zeros(g.shape, jnp.int32)
    for tap, value in enumerate(values[1:], 1):
        winner = jnp.where(value > largest, tap, winner)
        largest = jnp.maximum(largest, value)

    def of_tap(i: int, j: int) -> jax.Array:
        """One more row and column: windows that begin two pixels earlier reach as far."""
        rows, columns = ((n // 2, 1 - n // 2) for n in (i, j))
        return jnp.pad(jnp.where(winner == 3 * i + j, g, 0), ((0, 0), rows, columns, (0, 0)))

    def of_phase(row: int, column: int) -> jax.Array:
        taps = [(i, j) for i in range(row, 3, 2) for j in range(column, 3, 2)]
        return functools.reduce(operator.add, (of_tap(i, j) for i, j in taps))

    phases = jnp.stack([jnp.stack([of_phase(i, j) for j in range(2)], 3) for i in range(2)], 2)
    batch, rows, _, columns, _, features = phases.shape
    padded = phases.reshape(batch, 2 * rows, 2 * columns, features)
    return (padded[:, 1 : 1 + x.shape[1], 1 : 1 + x.shape[2]].astype(x.dtype),)


max_pool.defvjp(lambda x: (max_pool(x), x), _gradient)
