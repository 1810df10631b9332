"""The memory of one training step, for each batch size measured in a process of its own.

That process is `python -m experiments.harness.step_memory`: it compiles the step, takes a few of
them on made-up images, and adds what it finds to a log as soon as it knows it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax
from flax import nnx
from rich.console import Console

from experiments.harness.command import run_command, say
from experiments.harness.process_memory import held_memory, peak_memory, restart_peak
from experiments.harness.published import published
from experiments.harness.subprocesses import subprocess_status
from jaxresnet import platform
from jaxresnet.data.dataset import normalise
from jaxresnet.errors import TrainingFailed
from jaxresnet.models.resnet import ModelOptions
from jaxresnet.optim import OptimizerOptions
from jaxresnet.options import command_line, option, parse_options, replace_options, unpublished
from jaxresnet.train.log import append_json_line, read_json_lines
from jaxresnet.train.recipe import TrainingOptions
from jaxresnet.train.state import TrainState, create_state, split_model
from jaxresnet.train.step import make_train_step

CLASSES = 1000

_WORKER = "harness.step_memory"
_LOG = "batch_sizes.jsonl"
_STEPS = 2  # the first takes memory that the others find again
_OUT_OF_MEMORY = "RESOURCE_EXHAUSTED"  # XLA's name for it
# Compiling is measured too; and the allocator of a GPU shall take what it needs, no more.
_ENVIRONMENT = {
    "JAX_ENABLE_COMPILATION_CACHE": "false",
    "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
}


@dataclass(frozen=True)
class SizeOptions:
    """The images."""

    image_size: int = option(
        224, affects="result", published=True, says="{} pixels", always=True, at_least=1
    )
    """Pixels a side."""


@dataclass(frozen=True)
class StepSettings:
    """A training step of the talk's network."""

    model: ModelOptions = ModelOptions(model="resnet152", stem="imagenet")
    optimizer: OptimizerOptions = OptimizerOptions()
    training: TrainingOptions = TrainingOptions()
    images: SizeOptions = SizeOptions()


@dataclass(frozen=True)
class WorkerOptions:
    """For the process that measures."""

    log: Path = unpublished(Path(_LOG), affects="nothing")
    """Where it adds its lines."""


@dataclass(frozen=True)
class WorkerSettings(StepSettings):
    worker: WorkerOptions = WorkerOptions()


@dataclass(frozen=True)
class StepMemory:
    """What a step of one batch size needs, in bytes.

    Attributes:
      machine: in words. backend: JAX's name of its kind of device.
      buffers: of the compiled program, by kind: arguments, outputs, temporaries, and those of
        the outputs that are arguments, aliased. None if the backend does not tell.
      compile_peak: the most that the process held until the step was compiled.
      before: what it held then, before the weights were drawn.
      peak: the most of the steps: of the device's allocator, on a CPU of the process.
      error: why there is no peak.
    """

    batch_size: int
    machine: str = ""
    backend: str = ""
    buffers: dict[str, int] | None = None
    compile_peak: int | None = None
    before: int | None = None
    peak: int | None = None
    error: str = ""

    @property
    def measured(self) -> int | None:
        """The peak; on a CPU without what the process held before, the compiler's above all."""
        if self.peak is None or self.before is None:
            return None
        return self.peak - self.before if self.backend == "cpu" else self.peak

    @property
    def compiled(self) -> int | None:
        """All buffers of the compiled program."""
        if self.buffers is None:
            return None
        made = sum(self.buffers[kind] for kind in ("arguments", "outputs", "temporaries"))
        return made - self.buffers["aliased"]


def measure_steps(
    settings: StepSettings, batch_sizes: Sequence[int], directory: Path, console: Console
) -> list[StepMemory]:
    """Measures each batch size that an earlier start in the directory did not.

    What does not fit has its error, and the others are measured.

    Raises:
      TrainingFailed: a step failed for another reason than memory, which is printed.
      Stopped: a signal came.
    """
    path = directory / _LOG
    step = StepSettings(*(getattr(settings, each.name) for each in fields(StepSettings)))
    for size in batch_sizes:
        if _read(path, size).peak is not None:
            continue
        say(console, f"batch size {size}: compiling, and two steps …")
        arguments = command_line(replace_options(step, batch_size=size))
        status = subprocess_status(_WORKER, [*arguments, "--log", str(path)], _ENVIRONMENT)
        if status > 0:
            raise TrainingFailed(f"batch size {size} failed: its message is above")
        if status < 0:
            append_json_line(path, {"batch_size": size, "error": f"ended by signal {-status}"})
    return [_read(path, size) for size in batch_sizes]


def _read(path: Path, batch_size: int) -> StepMemory:
    """From all lines of that batch size, later ones over earlier ones."""
    record: dict[str, Any] = {"batch_size": batch_size}
    for line in read_json_lines(path):
        if line["batch_size"] == batch_size:
            record |= line
    return StepMemory(**record)


def compile_step(settings: StepSettings) -> jax.stages.Compiled:
    """Compiles the training step, from shapes alone: nothing is drawn or allocated."""
    training, figures = settings.training, published()["resnet152"]
    model = nnx.eval_shape(lambda: settings.model.create(CLASSES, training.seed))
    network, params, batch_stats = split_model(model)
    optimizer = make_optimizer(settings)
    state = jax.eval_shape(partial(create_state, optimizer=optimizer), params, batch_stats)
    standardise = partial(normalise, mean=figures["normalise_mean"], std=figures["normalise_std"])
    step = make_train_step(network, optimizer, standardise, training.seed, loss=training.loss)
    return step.lower(state, *_batch_shapes(settings)).compile()


def make_optimizer(settings: StepSettings) -> optax.GradientTransformation:
    """As a training of one step an epoch has it."""
    return settings.optimizer.create(settings.training.epochs, steps_per_epoch=1)


def _batch_shapes(settings: StepSettings) -> tuple[jax.ShapeDtypeStruct, jax.ShapeDtypeStruct]:
    batch, pixels = settings.training.batch_size, settings.images.image_size
    images = jax.ShapeDtypeStruct((batch, pixels, pixels, 3), np.uint8)
    return images, jax.ShapeDtypeStruct((batch,), np.int32)


def buffer_sizes(compiled: jax.stages.Compiled) -> dict[str, int] | None:
    """See StepMemory.buffers."""
    sizes = compiled.memory_analysis()
    if sizes is None:
        return None
    return {
        "arguments": sizes.argument_size_in_bytes,
        "outputs": sizes.output_size_in_bytes,
        "temporaries": sizes.temp_size_in_bytes,
        "aliased": sizes.alias_size_in_bytes,
    }


def draw_state(settings: StepSettings) -> TrainState:
    """The state before the first step."""
    _, params, batch_stats = split_model(settings.model.create(CLASSES, settings.training.seed))
    return create_state(params, batch_stats, make_optimizer(settings))


def take_steps(settings: StepSettings, compiled: jax.stages.Compiled, state: TrainState) -> None:
    """On black images, from a state that is used up."""
    batch = jax.device_put([np.zeros(s.shape, s.dtype) for s in _batch_shapes(settings)])
    for _ in range(_STEPS):
        state, metrics = compiled(state, *batch)
        jax.block_until_ready(metrics)


def main(arguments: list[str]) -> None:
    """Measures one batch size, that of the command line, and adds lines to the log."""
    settings = parse_options(WorkerSettings, f"python -m experiments.{_WORKER}", "", arguments)

    def add(**found: Any) -> None:
        size = {"batch_size": settings.training.batch_size}
        append_json_line(settings.worker.log, {**size, **found})

    add(machine=platform.machine(), backend=jax.default_backend(), error="")
    try:
        compiled = compile_step(settings)
        buffers, compile_peak = buffer_sizes(compiled), peak_memory()
        platform.release_unused_memory()
        add(buffers=buffers, compile_peak=compile_peak, before=held_memory())
        state = draw_state(settings)
        platform.release_unused_memory()
        restart_peak()
        take_steps(settings, compiled, state)
    except jax.errors.JaxRuntimeError as error:
        if _OUT_OF_MEMORY not in str(error):
            raise
        add(error="out of memory")
    else:
        allocator = jax.local_devices()[0].memory_stats() or {}
        add(peak=allocator.get("peak_bytes_in_use", peak_memory()))


if __name__ == "__main__":
    run_command(main, computes=False)
