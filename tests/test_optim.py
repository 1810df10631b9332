"""Each optimizer against PyTorch's documented update, written out in NumPy float64."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxresnet.data.loaders import LoaderOptions
from jaxresnet.data.sources import ImageOptions, load_dataset
from jaxresnet.errors import UserError
from jaxresnet.models.resnet import ModelOptions
from jaxresnet.optim import OPTIMIZERS, SCHEDULES, Optimizer, OptimizerOptions
from jaxresnet.train.recipe import Recipe, TrainingOptions
from jaxresnet.train.training import build_training

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
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_updates_follow_pytorchs_definitions(name, weight_decay):
    assert name in UPDATES, f"add torch.optim's update of {name} to UPDATES, in NumPy"
    curvature = np.array([[1.0, 10.0], [0.1, 3.0]])
    expected = np.array([[1.0, -2.0], [3.0, 0.5]])
    # Optax's Adam raises a float to an integer power, which strict promotion forbids.
    with jax.enable_x64(True), jax.numpy_dtype_promotion("standard"):
        params: Any = {"w": jnp.asarray(expected)}
        options = OptimizerOptions(
            name, learning_rate=RATE, momentum=MOMENTUM, weight_decay=weight_decay
        )
        optimizer = options.create(1, STEPS)
        state = optimizer.init(params)
        memory: dict = {}
        for step in range(1, STEPS + 1):
            gradient = curvature * expected
            expected = expected - UPDATES[name](gradient + weight_decay * expected, memory, step)
            updates, state = optimizer.update({"w": curvature * params["w"]}, state, params)
            params = optax.apply_updates(params, updates)
        assert params["w"].dtype == jnp.float64
        np.testing.assert_allclose(params["w"], expected, rtol=1e-10)


def test_the_rate_is_the_given_one_else_the_protocols():
    assert OptimizerOptions("adam").rate == 0.1
    assert OptimizerOptions("adam", "defaults").rate == 0.001  # torch.optim.Adam's
    assert OptimizerOptions("adam", "defaults", learning_rate=0.5).rate == 0.5


def test_momentum_matters_to_those_that_say_so():
    params: Any = {"w": jnp.array([1.0, 2.0])}

    def second_update(name: str, momentum: float) -> np.ndarray:
        optimizer = OptimizerOptions(name, momentum=momentum).create(1, 2)
        gradients: Any = {"w": jnp.array([0.1, 0.3])}
        _, state = optimizer.update(gradients, optimizer.init(params), params)
        updates: Any = optimizer.update(gradients, state, params)[0]
        return np.asarray(updates["w"])

    with jax.numpy_dtype_promotion("standard"):
        for name, entry in OPTIMIZERS.items():
            differ = not np.array_equal(second_update(name, 0.9), second_update(name, 0.5))
            assert differ == entry.uses_momentum


def test_an_unknown_optimizer_is_refused_with_the_known_ones():
    with pytest.raises(UserError, match=r"optimizer 'adamax'.*sgd.*adam"):
        OptimizerOptions("adamax").create(1, 1)


def test_an_optimizer_needs_only_its_entry(monkeypatch):
    monkeypatch.setitem(
        OPTIMIZERS, "signs", Optimizer("Signs", 0.5, lambda _: optax.scale_by_sign())
    )
    optimizer = OptimizerOptions("signs", "defaults", weight_decay=0.0).create(1, 1)
    params = jnp.array([1.0, 1.0])
    updates: Any
    updates, _ = optimizer.update(jnp.array([3.0, -4.0]), optimizer.init(params), params)
    np.testing.assert_allclose(updates, [-0.5, 0.5])


@pytest.mark.parametrize("name", SCHEDULES)
def test_every_schedule_stays_between_zero_and_the_rate(name):
    """At each of the steps, which are counted from 0; what a schedule does besides is its own."""
    epochs, steps_per_epoch = 5, 4
    total = epochs * steps_per_epoch
    schedule = SCHEDULES[name](RATE, epochs, steps_per_epoch)
    with jax.numpy_dtype_promotion("standard"):  # Optax's schedules mix floats and integers
        rates = [
            np.asarray(schedule(step) if callable(schedule) else schedule).item()
            for step in range(total)
        ]
    assert all(0 <= rate <= RATE * (1 + 1e-6) for rate in rates)
    assert max(rates) == pytest.approx(RATE, rel=0.2)
    if name == "constant":
        assert rates == [RATE] * total


def test_a_training_tells_its_schedule_how_long_it_is(monkeypatch):
    told = []
    monkeypatch.setitem(SCHEDULES, "told", lambda *lengths: told.append(lengths) or 0.1)
    images = ImageOptions(data="synthetic", train_images=72, eval_images=1)
    optimizer = OptimizerOptions(schedule="told", learning_rate=0.2)
    training = TrainingOptions(epochs=3, batch_size=16)
    recipe = Recipe(images, ModelOptions(width=1), optimizer, training)
    dataset = load_dataset(images, on_progress=print, warn=print)
    build_training("sgd", "SGD", recipe, dataset, LoaderOptions(loader="resident"))
    assert told == [(0.2, 3, 5)]  # the last of five steps takes the 8 images that are left
