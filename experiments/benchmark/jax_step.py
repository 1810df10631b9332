"""This project's training step as a contestant."""

import time
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from experiments.benchmark.worker import (
    Answer,
    Repeat,
    matrix_product_gflops,
    random_batch,
    random_matrix,
    repeat_steps,
)
from jaxresnet import platform
from jaxresnet.models.resnet import create_model
from jaxresnet.optim import OptimizerOptions, create_optimizer
from jaxresnet.train.state import TrainState, create_state, split_model
from jaxresnet.train.step import make_train_step


def set_up(settings: dict[str, Any]) -> tuple[Answer, Repeat]:
    """Compiles the step of bench_step's settings, with "convolution" as create_model takes it."""
    platform.prepare_process()
    started = time.perf_counter()
    batch_size = settings["batch_size"]
    images, labels = map(
        jnp.asarray, random_batch(batch_size, settings["image_size"], settings["classes"])
    )
    compiled, state = _compile(settings, images, labels)
    platform.release_unused_memory()

    def step() -> None:
        nonlocal state
        state, metrics = compiled(state, images, labels)
        metrics.loss.block_until_ready()

    step()
    first_step_seconds = time.perf_counter() - started
    for _ in range(settings["warmup"] - 1):
        step()
    ready = {
        "framework": f"JAX {jax.__version__}",
        "threads": platform.cpu_threads(),
        "first_step_seconds": first_step_seconds,
        "matrix_product_gflops": _matrix_product_gflops(settings["dtype"]),
        "process_settings": platform.settings(),
    }
    return ready, repeat_steps(step, batch_size)


def _compile(
    settings: dict[str, Any], images: jax.Array, labels: jax.Array
) -> tuple[jax.stages.Compiled, TrainState]:
    model = create_model(
        settings["model"],
        num_classes=settings["classes"],
        stem=settings["stem"],
        width=settings["width"],
        dtype=jnp.dtype(settings["dtype"]),
        convolution=settings["convolution"],
        rngs=nnx.Rngs(0),
    )
    network, params, batch_stats = split_model(model)
    options = OptimizerOptions(
        settings["learning_rate"], settings["momentum"], settings["weight_decay"]
    )
    optimizer = create_optimizer("sgd", options)
    state = create_state(params, batch_stats, optimizer)
    return make_train_step(network, optimizer, 0).lower(state, images, labels).compile(), state


def _matrix_product_gflops(dtype: str) -> float:
    matrix = jnp.asarray(random_matrix()).astype(dtype)
    product = jax.jit(jnp.matmul, compiler_options=platform.compiler_options())
    return matrix_product_gflops(lambda: product(matrix, matrix).block_until_ready())
