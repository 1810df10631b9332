"""Each optimizer against torch.optim in float64."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import torch

from experiments.checks.fidelity.comparison import Case, Comparison, Part, worst
from experiments.checks.fidelity.passes import differences
from experiments.pytorch.training import TORCH_OPTIMIZERS, create_torch_optimizer
from jaxresnet.optim import OPTIMIZERS, OptimizerOptions

_STEPS = 200
_SHAPE = (12, 7)
_BOUND = 1e-10
_WEIGHT_DECAYS = {"no weight decay": 0.0, "weight decay 0.05": 0.05}

COMPARED = {name: entry for name, entry in OPTIMIZERS.items() if name in TORCH_OPTIMIZERS}
_LEFT_OUT = [entry.title for name, entry in OPTIMIZERS.items() if name not in COMPARED]


def _compare(name: str) -> list[Comparison]:
    """The parameters after every step, with and without weight decay; the size of the state."""
    entry, comparisons = OPTIMIZERS[name], []
    for title, decay in _WEIGHT_DECAYS.items():
        options = OptimizerOptions(
            name, learning_rate=entry.usual_learning_rate, weight_decay=decay
        )
        with jax.enable_x64(True):
            params, size = _descend(options)
        torch_params, torch_size = _torch_descend(options)
        largest = worst(differences(params, torch_params).values())
        what = f"{entry.title}, {title}"
        comparisons += [
            Comparison(f"{what}: parameters, float64", largest, _BOUND),
            Comparison(f"{what}: values of state too many or few", abs(size - torch_size), 0),
        ]
    return comparisons


def _gradients() -> np.ndarray:
    """Of each step, of very different magnitudes, as those of a loss that falls."""
    generator = np.random.default_rng(0)
    return generator.normal(size=(_STEPS, *_SHAPE)) * np.geomspace(1, 1e-4, _STEPS)[:, None, None]


def _descend(options: OptimizerOptions) -> tuple[dict[str, np.ndarray], int]:
    """The parameters after each step, and how many values of state, counters of steps aside."""
    optimizer = options.create(_STEPS)
    params = jnp.ones(_SHAPE)
    state = optimizer.init(params)
    update = jax.jit(optimizer.update)
    path = {}
    for step, gradient in enumerate(_gradients()):
        updates, state = update(jnp.asarray(gradient), state, params)
        params = optax.apply_updates(params, updates)
        path[f"step {step}"] = np.asarray(params)
    return path, sum(leaf.size for leaf in jax.tree.leaves(state) if leaf.ndim)


def _torch_descend(options: OptimizerOptions) -> tuple[dict[str, np.ndarray], int]:
    params = torch.ones(_SHAPE, dtype=torch.float64, requires_grad=True)
    optimizer = create_torch_optimizer([params], options)
    path = {}
    for step, gradient in enumerate(_gradients()):
        params.grad = torch.from_numpy(gradient)
        optimizer.step()
        path[f"step {step}"] = params.detach().numpy().copy()
    tensors = [
        t for state in optimizer.state.values() for t in state.values() if torch.is_tensor(t)
    ]
    return path, sum(tensor.numel() for tensor in tensors if tensor.ndim)


def _cases(*_: Any) -> Mapping[str, Case]:
    return {entry.title: partial(_compare, name) for name, entry in COMPARED.items()}


PART = Part(
    _cases,
    note=f"The largest difference over the largest magnitude, of any of {_STEPS} steps."
    + (f" Left out, since torch.optim has no such: {', '.join(_LEFT_OUT)}." if _LEFT_OUT else ""),
)
