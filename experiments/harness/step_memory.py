"""Measures one training step: its memory and its time, with one batch size.

It compiles the step, takes a few of them on made-up images unless they would not fit, and adds what
it finds to a log as soon as it knows it. See measured_steps, which starts it as
`python -m experiments.harness.step_memory`.
"""

import math
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import numpy as np
import optax

from experiments.harness.command import run_command
from experiments.harness.measured_steps import StepSettings, WorkerSettings, too_large
from experiments.harness.published import published
from jaxresnet import platform
from jaxresnet.data.dataset import normalise
from jaxresnet.data.imagenet import CLASSES
from jaxresnet.options import parse_options
from jaxresnet.process_memory import (
    available_memory,
    held_memory,
    peak_memory,
    restart_peak,
)
from jaxresnet.train.accumulation import make_step, step_buffers
from jaxresnet.train.log import append_json_line
from jaxresnet.train.state import TrainState, create_state, split_model
from jaxresnet.train.step import StepFunctions

_OUT_OF_MEMORY = "RESOURCE_EXHAUSTED"  # XLA's name for it


def compile_step(settings: StepSettings) -> Any:
    """Compiles the training step, from shapes alone: nothing is drawn or allocated."""
    training, figures = settings.training, published()["resnet152"]
    network, params, batch_stats = split_model(settings.model.create_abstract(CLASSES))
    optimizer = make_optimizer(settings)
    state = jax.eval_shape(partial(create_state, optimizer=optimizer), params, batch_stats)
    standardise = partial(normalise, mean=figures["normalise_mean"], std=figures["normalise_std"])
    functions = StepFunctions(
        network,
        optimizer,
        standardise,
        training.seed,
        loss=training.loss,
        penalty=settings.optimizer.penalty,
    )
    step = make_step(functions, training.accumulate)
    return step.lower(state, *_batch_shapes(settings)).compile()


def make_optimizer(settings: StepSettings) -> optax.GradientTransformation:
    """Of the shortest training that its schedule allows: memory does not depend on it."""
    return settings.optimizer.create(1 + math.ceil(settings.optimizer.warmup_epochs), 1)


def _batch_shapes(settings: StepSettings) -> tuple[jax.ShapeDtypeStruct, jax.ShapeDtypeStruct]:
    batch, pixels = settings.training.batch_size, settings.images.image_size
    images = jax.ShapeDtypeStruct((batch, pixels, pixels, 3), np.uint8)
    return images, jax.ShapeDtypeStruct((batch,), np.int32)


def draw_state(settings: StepSettings) -> TrainState:
    """The state before the first step."""
    _, params, batch_stats = split_model(settings.model.create(CLASSES, settings.training.seed))
    return create_state(params, batch_stats, make_optimizer(settings))


def take_steps(settings: StepSettings, compiled: Any, state: TrainState, steps: int) -> list[float]:
    """One step and then so many, whose seconds it returns.

    On black images that are on the device before, from a state that is used up.
    """
    batch = jax.device_put([np.zeros(s.shape, s.dtype) for s in _batch_shapes(settings)])
    ends = []
    for _ in range(1 + steps):
        state, metrics = compiled(state, *batch)
        jax.block_until_ready((state, metrics))
        ends.append(time.perf_counter())
    return np.diff(ends).tolist()


def _room(limit: float | None) -> float | None:
    """See StepMemory.room; of a device's own memory if it has some, else of the machine's."""
    allocator = jax.local_devices()[0].memory_stats()
    if allocator:
        held, total = allocator["bytes_in_use"], allocator.get("bytes_limit")
        free = None if total is None else total - held
    else:
        held, free = held_memory(), available_memory()
    bounds = [free, None if limit is None else max(0.0, limit - held)]
    return min((bound for bound in bounds if bound is not None), default=None)


def main(arguments: list[str]) -> None:
    """Measures one batch size, that of the command line, and adds lines to the log."""
    command = "python -m experiments.harness.step_memory"
    settings = parse_options(WorkerSettings, command, __doc__ or "", arguments)

    def add(**found: Any) -> None:
        size = {"batch_size": settings.training.batch_size}
        append_json_line(settings.worker.log, {**size, **found})

    add(machine=platform.machine(), backend=jax.default_backend(), error="")
    try:
        _measure(settings, add)
    except (MemoryError, jax.errors.JaxRuntimeError) as error:
        if not isinstance(error, MemoryError) and _OUT_OF_MEMORY not in str(error):
            raise
        add(error="out of memory")


def _measure(settings: WorkerSettings, add: Callable[..., None]) -> None:
    compiled = compile_step(settings)
    buffers, compile_peak = step_buffers(compiled), peak_memory()
    platform.release_unused_memory()
    room = _room(settings.measuring.limit)
    add(buffers=buffers and buffers._asdict(), compile_peak=compile_peak)
    add(before=held_memory(), room=room)
    if buffers is not None and room is not None and buffers.total > room:
        add(error=too_large(buffers.total, room))
        return
    state = draw_state(settings)
    platform.release_unused_memory()
    restart_peak()
    seconds = take_steps(settings, compiled, state, settings.measuring.steps)
    add(peak=platform.peak_memory(), seconds=seconds)


if __name__ == "__main__":
    run_command(main, computes=False)
