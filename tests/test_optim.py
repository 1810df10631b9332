"""Each optimizer against PyTorch's documented update, written out in NumPy float64."""

from collections.abc import Callable
from functools import partial
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


def rates_of(options: OptimizerOptions, epochs: int, steps_per_epoch: int) -> list[float]:
    """At each of the steps, which are counted from 0."""
    schedule = options.learning_rate_at(epochs, steps_per_epoch)
    with jax.numpy_dtype_promotion("standard"):  # Optax's schedules mix floats and integers
        return [
            np.asarray(schedule(step) if callable(schedule) else schedule).item()
            for step in range(epochs * steps_per_epoch)
        ]


@pytest.mark.parametrize("warmup", [0.0, 1.0])
@pytest.mark.parametrize("name", SCHEDULES)
def test_every_schedule_stays_between_zero_and_the_rate(name, warmup):
    """What a schedule does besides is its own."""
    options = OptimizerOptions(learning_rate=RATE, schedule=name, warmup_epochs=warmup)
    rates = rates_of(options, 5, 4)
    assert all(0 < rate <= RATE * (1 + 1e-6) for rate in rates)
    assert max(rates) == pytest.approx(RATE, rel=0.2)
    if name == "constant" and not warmup:
        assert rates == [RATE] * 20


def test_the_step_schedule_drops_after_30_60_and_80_of_90_epochs():
    rates = rates_of(OptimizerOptions(learning_rate=RATE, schedule="step", warmup_epochs=5), 90, 2)
    expected = [RATE] * 50 + [RATE / 10] * 60 + [RATE / 100] * 40 + [RATE / 1000] * 20
    np.testing.assert_allclose(rates[10:], expected, rtol=1e-5)
    # Ten steps of warm-up, by equal amounts.
    np.testing.assert_allclose(rates[:10], np.arange(1, 11) * RATE / 11, rtol=1e-5)


@pytest.mark.parametrize(("epochs", "steps_per_epoch"), [(9, 4), (1, 7), (5, 1)])
@pytest.mark.parametrize("warmup", [0.0, 0.3])
@pytest.mark.parametrize("name", SCHEDULES)
def test_rates_are_those_of_pytorchs_schedulers(name, warmup, epochs, steps_per_epoch):
    torch = pytest.importorskip("torch", reason="compares with PyTorch")
    from experiments.pytorch.training import create_torch_optimizer, create_torch_scheduler

    options = OptimizerOptions(schedule=name, warmup_epochs=warmup)
    optimizer = create_torch_optimizer([torch.ones(1, requires_grad=True)], options)
    scheduler = create_torch_scheduler(optimizer, options, epochs, steps_per_epoch)
    expected = []
    for _ in range(epochs * steps_per_epoch):
        expected.append(scheduler.get_last_lr()[0])
        optimizer.step()
        scheduler.step()
    rates = rates_of(options, epochs, steps_per_epoch)
    np.testing.assert_allclose(rates, expected, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("no_decay_on_norm", [False, True])
@pytest.mark.parametrize("name", ["sgd", "adam"])
def test_decay_of_kernels_alone_follows_pytorchs_parameter_groups(name, no_decay_on_norm):
    torch = pytest.importorskip("torch", reason="compares with PyTorch")
    options = OptimizerOptions(
        name, learning_rate=RATE, weight_decay=0.5, no_decay_on_norm=no_decay_on_norm
    )
    shapes = {"kernel": (2, 3), "bias": (3,)}
    tensors = {k: torch.ones(s, dtype=torch.float64, requires_grad=True) for k, s in shapes.items()}
    undecayed = {"params": [tensors["bias"]], "weight_decay": 0.0 if no_decay_on_norm else 0.5}
    kind = {"sgd": partial(torch.optim.SGD, momentum=MOMENTUM), "adam": torch.optim.Adam}[name]
    reference = kind([{"params": [tensors["kernel"]]}, undecayed], lr=RATE, weight_decay=0.5)
    with jax.enable_x64(True), jax.numpy_dtype_promotion("standard"):
        optimizer = options.create(1, 3)
        params: Any = {key: jnp.ones(shape) for key, shape in shapes.items()}
        state = optimizer.init(params)
        for step in range(3):
            gradients: Any = {key: jnp.full(shape, step - 0.5) for key, shape in shapes.items()}
            updates, state = optimizer.update(gradients, state, params)
            params = optax.apply_updates(params, updates)
            for tensor in tensors.values():
                tensor.grad = torch.full_like(tensor, step - 0.5)
            reference.step()
        for key, tensor in tensors.items():
            np.testing.assert_allclose(params[key], tensor.detach().numpy(), rtol=1e-10)


@pytest.mark.parametrize("no_decay_on_norm", [False, True])
def test_the_penalty_is_alpha_times_magnitudes_and_half_alpha_times_squares(no_decay_on_norm):
    options = OptimizerOptions(l1=0.3, l2=0.5, no_decay_on_norm=no_decay_on_norm)
    params: Any = {"kernel": jnp.array([[1.0, -2.0]]), "bias": jnp.array([4.0])}
    penalty = options.penalty
    assert penalty is not None
    expected = 0.3 * 3 + 0.25 * 5 + (0 if no_decay_on_norm else 0.3 * 4 + 0.25 * 16)
    assert float(penalty(params)) == pytest.approx(expected)
    assert OptimizerOptions().penalty is None


def test_a_training_tells_its_schedule_how_long_it_is(monkeypatch):
    told = []
    monkeypatch.setitem(SCHEDULES, "told", lambda *lengths: told.append(lengths) or 0.1)
    images = ImageOptions(data="synthetic", train_images=72, eval_images=1)
    optimizer = OptimizerOptions(schedule="told", learning_rate=0.2)
    training = TrainingOptions(epochs=3, batch_size=16)
    recipe = Recipe(images, ModelOptions(width=1), optimizer, training)
    dataset = load_dataset(images, on_progress=print, warn=print)
    build_training("sgd", "SGD", recipe, dataset, LoaderOptions(loader="resident"))
    assert told == [(0.2, 15, 0)]  # the last of an epoch's five steps takes the 8 images left
