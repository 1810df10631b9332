"""Each optimizer against PyTorch's documented update, written out in NumPy float64."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxresnet import optim
from jaxresnet.errors import UserError

RATE, MOMENTUM, STEPS = 0.1, 0.9, 30
Update = Callable[[np.ndarray, dict, int], np.ndarray]


def sgd(g, state, _):
    state["b"] = MOMENTUM * state.get("b", 0) + g
    return RATE * state["b"]


def nesterov(g, state, _):
    state["b"] = MOMENTUM * state.get("b", 0) + g
    return RATE * (g + MOMENTUM * state["b"])


def adagrad(g, state, _):
    state["sum"] = state.get("sum", 0) + g**2
    return RATE * g / (np.sqrt(state["sum"]) + 1e-10)


def adadelta(g, state, _):
    state["v"] = 0.9 * state.get("v", 0) + 0.1 * g**2
    delta = np.sqrt(state.get("u", 0) + 1e-6) / np.sqrt(state["v"] + 1e-6) * g
    state["u"] = 0.9 * state.get("u", 0) + 0.1 * delta**2
    return RATE * delta


def adam(g, state, t):
    state["m"] = 0.9 * state.get("m", 0) + 0.1 * g
    state["v"] = 0.999 * state.get("v", 0) + 0.001 * g**2
    denominator = np.sqrt(state["v"]) / np.sqrt(1 - 0.999**t) + 1e-8
    return RATE / (1 - 0.9**t) * state["m"] / denominator


UPDATES: dict[str, Update] = {
    "sgd": sgd,
    "nesterov": nesterov,
    "adagrad": adagrad,
    "adadelta": adadelta,
    "adam": adam,
}


@pytest.mark.parametrize("weight_decay", [0.0, 0.01])
@pytest.mark.parametrize("name", UPDATES)
def test_updates_follow_pytorchs_definitions(name, weight_decay):
    curvature = np.array([[1.0, 10.0], [0.1, 3.0]])
    expected = np.array([[1.0, -2.0], [3.0, 0.5]])
    # Optax's Adam raises a float to an integer power, which strict promotion forbids.
    with jax.enable_x64(True), jax.numpy_dtype_promotion("standard"):
        params: Any = {"w": jnp.asarray(expected)}
        optimizer = optim.create_optimizer(
            name, optim.OptimizerOptions(RATE, MOMENTUM, weight_decay)
        )
        state = optimizer.init(params)
        memory: dict = {}
        for step in range(1, STEPS + 1):
            gradient = curvature * expected
            expected = expected - UPDATES[name](gradient + weight_decay * expected, memory, step)
            updates, state = optimizer.update({"w": curvature * params["w"]}, state, params)
            params = optax.apply_updates(params, updates)
        assert params["w"].dtype == jnp.float64
        np.testing.assert_allclose(params["w"], expected, rtol=1e-10)


def test_the_registry_holds_the_five_of_the_labs():
    assert set(UPDATES) <= set(optim.optimizer_names())


def test_an_unknown_optimizer_is_refused_with_the_known_ones():
    with pytest.raises(UserError, match=r"'adamax'.*sgd.*adam"):
        optim.create_optimizer("adamax", optim.OptimizerOptions(RATE))


def test_registering_a_sixth_is_one_function(monkeypatch):
    monkeypatch.setattr(optim, "_REGISTRY", dict(optim._REGISTRY))

    @optim.register("signs", label="Signs", usual_learning_rate=0.01)
    def _signs(_: optim.OptimizerOptions) -> optax.GradientTransformation:
        return optax.scale_by_sign()

    optimizer = optim.create_optimizer("signs", optim.OptimizerOptions(0.5, weight_decay=0.0))
    params = jnp.array([1.0, 1.0])
    updates: Any
    updates, _ = optimizer.update(jnp.array([3.0, -4.0]), optimizer.init(params), params)
    np.testing.assert_allclose(updates, [-0.5, 0.5])
