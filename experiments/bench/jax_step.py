"""This project's training step as a contestant."""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.bench.worker import Answer, Settings, Work, set_up_steps
from jaxresnet import platform
from jaxresnet.data.dataset import normalise
from jaxresnet.models.resnet import ModelOptions
from jaxresnet.optim import OptimizerOptions
from jaxresnet.train.state import Network, TrainState, create_state, split_model
from jaxresnet.train.step import StepFunctions


def set_up(settings: Settings) -> tuple[Answer, Work]:
    """Compiles the step; see step.py for the settings."""
    platform.prepare_process()
    ready, step = set_up_steps(settings, _make_step, _make_product)
    process = {"threads": platform.cpu_threads(), "process_settings": platform.settings()}
    return {"framework": f"JAX {jax.__version__}", **process, **ready}, step


def _make_step(settings: Settings, images: np.ndarray, labels: np.ndarray) -> Work:
    batch = jnp.asarray(images), jnp.asarray(labels)
    optimizer = OptimizerOptions(**settings["optimizer"]).create(epochs=1, steps_per_epoch=1)
    network, state = _draw_state(settings, optimizer)
    standardise = partial(normalise, mean=settings["mean"], std=settings["std"])
    train_step = StepFunctions(network, optimizer, standardise).jit()
    compiled = train_step.lower(state, *batch).compile()
    platform.release_unused_memory()

    def step() -> int:
        nonlocal state
        state, metrics = compiled(state, *batch)
        metrics["loss"].block_until_ready()
        return len(images)

    return step


def _draw_state(
    settings: Settings, optimizer: optax.GradientTransformation
) -> tuple[Network, TrainState]:
    """In a function of its own, for the weights on the host are to go before the step compiles."""
    model = ModelOptions(**settings["network"]).create(settings["classes"], seed=0)
    network, params, batch_stats = split_model(model)
    return network, create_state(params, batch_stats, optimizer)


def _make_product(settings: Settings, values: np.ndarray) -> Callable[[], object]:
    matrix = jnp.asarray(values).astype(settings["dtype"])
    product = jax.jit(jnp.matmul, compiler_options=platform.compiler_options())
    return lambda: product(matrix, matrix).block_until_ready()
