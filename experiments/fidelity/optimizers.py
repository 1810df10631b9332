"""Each optimizer against torch.optim in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import torch

from experiments.fidelity.comparison import Comparison, relative_difference, worst
from experiments.pytorch.training import create_torch_optimizer
from jaxresnet.optim import OptimizerOptions, create_optimizer, get_optimizer, optimizer_names

STEPS = 200
BOUND = 1e-10
RATES = {"sgd": 0.02, "nesterov": 0.02, "adagrad": 0.1, "adadelta": 1.0, "adam": 0.01}
WEIGHT_DECAY = 5e-2


def compare_optimizers() -> list[Comparison]:
    """The parameters after every one of 200 steps, with and without weight decay; the state."""
    comparisons = []
    for name in optimizer_names():
        label = get_optimizer(name).label
        for decay in (0.0, WEIGHT_DECAY):
            options = OptimizerOptions(RATES[name], weight_decay=decay)
            what = f"{label}, {f'weight decay {decay:g}' if decay else 'no weight decay'}"
            with jax.enable_x64(True):
                largest = _compare(name, options)
            comparisons.append(Comparison(f"{what}: parameters, float64", largest, BOUND))
        comparisons.append(
            Comparison(
                f"{label}: values of state more or fewer than PyTorch's", _compare_state(name), 0
            )
        )
    return comparisons


def _problem() -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    """A small regression with a tanh layer: its inputs, targets and first parameters."""
    generator = np.random.default_rng(0)
    inputs, targets = generator.normal(size=(64, 8)), generator.normal(size=(64, 3))
    first = {"hidden": generator.normal(size=(8, 6)), "output": generator.normal(size=(6, 3))}
    return inputs, targets, first


def _compare(name: str, options: OptimizerOptions) -> float:
    """The largest relative difference of any tensor after any step."""
    paths = zip(_run_here(name, options), _run_torch(name, options), strict=True)
    return worst(
        relative_difference(found[key], expected[key])
        for found, expected in paths
        for key in expected
    )


def _compare_state(name: str) -> float:
    """How many values one side keeps more than the other, counters of steps aside."""
    _, _, first = _problem()
    options = OptimizerOptions(RATES[name])
    params = {key: torch.tensor(array, requires_grad=True) for key, array in first.items()}
    optimizer = create_torch_optimizer(name, list(params.values()), options)
    for tensor in params.values():
        tensor.sum().backward()
    optimizer.step()
    kept = [value for state in optimizer.state.values() for value in state.values()]
    theirs = sum(value.numel() for value in kept if torch.is_tensor(value) and value.ndim)
    state = create_optimizer(name, options).init(jax.tree.map(jnp.asarray, first))
    ours = sum(leaf.size for leaf in jax.tree.leaves(state) if leaf.ndim)
    return abs(ours - theirs)


def _run_here(name: str, options: OptimizerOptions) -> list[dict[str, np.ndarray]]:
    inputs, targets, first = _problem()
    optimizer = create_optimizer(name, options)

    def loss(params: dict[str, jax.Array]) -> jax.Array:
        outputs = jnp.tanh(jnp.asarray(inputs) @ params["hidden"]) @ params["output"]
        return jnp.square(outputs - jnp.asarray(targets)).mean()

    @jax.jit
    def step(params, state):
        updates, state = optimizer.update(jax.grad(loss)(params), state, params)
        return optax.apply_updates(params, updates), state

    params = jax.tree.map(jnp.asarray, first)
    state = optimizer.init(params)
    path = []
    for _ in range(STEPS):
        params, state = step(params, state)
        path.append(jax.tree.map(np.asarray, params))
    return path


def _run_torch(name: str, options: OptimizerOptions) -> list[dict[str, np.ndarray]]:
    inputs, targets, first = _problem()
    params = {key: torch.tensor(array, requires_grad=True) for key, array in first.items()}
    optimizer = create_torch_optimizer(name, list(params.values()), options)
    path = []
    for _ in range(STEPS):
        optimizer.zero_grad()
        outputs = torch.tanh(torch.from_numpy(inputs) @ params["hidden"]) @ params["output"]
        (outputs - torch.from_numpy(targets)).square().mean().backward()
        optimizer.step()
        path.append({key: tensor.detach().numpy().copy() for key, tensor in params.items()})
    return path
