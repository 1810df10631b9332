"""Each optimizer against torch.optim in float64."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import torch

from experiments.checks.fidelity.layers import differences
from experiments.checks.fidelity.parts import Cases, Comparison, Part, worst
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
    comparisons: list[Comparison] = []
    # Gradients of very different magnitudes, as those of a loss that falls.
    gradients = np.random.default_rng(0).normal(size=(_STEPS, *_SHAPE))
    gradients *= np.geomspace(1, 1e-4, _STEPS)[:, None, None]
    for decay_title, decay in _WEIGHT_DECAYS.items():
        options = OptimizerOptions(name, protocol="defaults", weight_decay=decay)
        optimizer = options.create(1, _STEPS)
        torch_params = torch.ones(_SHAPE, dtype=torch.float64, requires_grad=True)
        torch_optimizer = create_torch_optimizer([torch_params], options)
        distances: list[float] = []
        with jax.enable_x64(True):
            params = jnp.ones(_SHAPE)
            state, update = optimizer.init(params), jax.jit(optimizer.update)
            for gradient in gradients:
                updates, state = update(jnp.asarray(gradient), state, params)
                params = optax.apply_updates(params, updates)
                here = {"params": np.asarray(params)}
                torch_params.grad = torch.from_numpy(gradient)
                torch_optimizer.step()
                distances += differences(here, {"params": torch_params.detach().numpy()}).values()
        # Without counters of steps.
        size = sum(leaf.size for leaf in jax.tree.leaves(state) if leaf.ndim)
        torch_size = sum(t.numel() for t in torch_optimizer.state[torch_params].values() if t.ndim)
        what = f"{options.entry.title}, {decay_title}"
        comparisons += [
            Comparison(f"{what}: parameters, float64", worst(distances), _BOUND),
            Comparison(f"{what}: values of state too many or few", abs(size - torch_size), 0),
        ]
    return comparisons


def _cases(*_: Any) -> Cases:
    return {entry.title: partial(_compare, name) for name, entry in COMPARED.items()}


PART = Part(
    _cases,
    note=f"The largest difference over the largest magnitude, of any of {_STEPS} steps."
    + (f" Left out, since torch.optim has no such: {', '.join(_LEFT_OUT)}." if _LEFT_OUT else ""),
)
