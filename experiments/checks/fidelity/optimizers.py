"""Each optimizer, and each learning-rate schedule, against torch.optim in float64."""

from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import torch

from experiments.checks.fidelity.layers import differences
from experiments.checks.fidelity.parts import Cases, Comparison, Part, worst
from experiments.pytorch.training import (
    TORCH_OPTIMIZERS,
    TORCH_SCHEDULES,
    create_torch_optimizer,
    create_torch_scheduler,
)
from jaxresnet.optim import OPTIMIZERS, SCHEDULES, OptimizerOptions

_EPOCHS, _STEPS_PER_EPOCH = 10, 20
_STEPS = _EPOCHS * _STEPS_PER_EPOCH
_SHAPE = (12, 7)
_BOUND = 1e-10
_WEIGHT_DECAYS = {"no weight decay": 0.0, "weight decay 0.05": 0.05}
_WARMUPS = {"no warm-up": 0.0, "warm-up of 2.5 of 10 epochs": 2.5}

COMPARED = {name: entry for name, entry in OPTIMIZERS.items() if name in TORCH_OPTIMIZERS}
_LEFT_OUT = [entry.title for name, entry in OPTIMIZERS.items() if name not in COMPARED] + [
    f"schedule {name}" for name in SCHEDULES if name not in TORCH_SCHEDULES
]


def _compare(variants: dict[str, OptimizerOptions]) -> list[Comparison]:
    """By title, the parameters after every step; the size of the state."""
    comparisons: list[Comparison] = []
    # Gradients of very different magnitudes, as those of a loss that falls.
    gradients = np.random.default_rng(0).normal(size=(_STEPS, *_SHAPE))
    gradients *= np.geomspace(1, 1e-4, _STEPS)[:, None, None]
    for what, options in variants.items():
        optimizer = options.create(_EPOCHS, _STEPS_PER_EPOCH)
        torch_params = torch.ones(_SHAPE, dtype=torch.float64, requires_grad=True)
        torch_optimizer = create_torch_optimizer([torch_params], options)
        scheduler = create_torch_scheduler(torch_optimizer, options, _EPOCHS, _STEPS_PER_EPOCH)
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
                scheduler.step()
                distances += differences(here, {"params": torch_params.detach().numpy()}).values()
        # Without counters of steps.
        size = sum(leaf.size for leaf in jax.tree.leaves(state) if leaf.ndim)
        torch_size = sum(t.numel() for t in torch_optimizer.state[torch_params].values() if t.ndim)
        comparisons += [
            Comparison(f"{what}: parameters, float64", worst(distances), _BOUND),
            Comparison(f"{what}: values of state too many or few", abs(size - torch_size), 0),
        ]
    return comparisons


def _cases(*_: Any) -> Cases:
    cases = {}
    for name, entry in COMPARED.items():
        options = OptimizerOptions(name, protocol="defaults")
        cases[entry.title] = {
            f"{entry.title}, {title}": replace(options, weight_decay=decay)
            for title, decay in _WEIGHT_DECAYS.items()
        }
    for name in TORCH_SCHEDULES:
        cases[f"{name} schedule"] = {
            f"SGD, {name} schedule, {title}": OptimizerOptions(schedule=name, warmup_epochs=epochs)
            for title, epochs in _WARMUPS.items()
        }
    return {title: partial(_compare, variants) for title, variants in cases.items()}


PART = Part(
    _cases,
    note=f"The largest difference over the largest magnitude, of any of {_STEPS} steps."
    + (f" Left out, since torch.optim has no such: {', '.join(_LEFT_OUT)}." if _LEFT_OUT else ""),
)
