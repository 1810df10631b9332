"""Memory and time of training steps, each batch size measured by a process of its own."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console

from experiments.harness.command import say
from experiments.harness.environment import describe_software
from experiments.harness.memory_lines import GIB, MemoryLine, fit_line, parse_size
from experiments.harness.run_directory import default_directory, open_run_directory
from experiments.harness.settings import QuickOptions
from experiments.harness.subprocesses import ask_process, subprocess_status
from jaxresnet.errors import TrainingFailed
from jaxresnet.models.resnet import ModelOptions
from jaxresnet.optim import OptimizerOptions
from jaxresnet.options import (
    changed_options,
    command_line,
    flag,
    option,
    plural,
    replace_options,
    unpublished,
)
from jaxresnet.train.accumulation import Buffers
from jaxresnet.train.log import append_json_line, read_json_lines
from jaxresnet.train.recipe import StepOptions

_WORKER = "harness.step_memory"
_ASK_DEVICE = "from jaxresnet import platform; print(platform.device())"
_MARGIN = 1.1  # by which a line through few batch sizes may be too high for others
# Compiling is measured too. The allocator of a GPU shall take what it needs, and may take nearly
# all: XLA would stop at three quarters.
_ENVIRONMENT = {
    "JAX_ENABLE_COMPILATION_CACHE": "false",
    "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
    "XLA_PYTHON_CLIENT_MEM_FRACTION": "0.95",
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

    model: ModelOptions = ModelOptions(model="resnet152", stem="imagenet", conv_bias=True)
    optimizer: OptimizerOptions = OptimizerOptions()
    training: StepOptions = StepOptions()
    images: SizeOptions = SizeOptions()


@dataclass(frozen=True)
class MemorySettings(StepSettings):
    """Of an experiment that measures steps."""

    output: QuickOptions = QuickOptions()


@dataclass(frozen=True)
class MeasuringOptions:
    """How a batch size is measured."""

    steps: int = unpublished(1, affects="result", at_least=1)
    """That are timed, after one that is not: it takes memory that the others find again."""
    memory_limit: str | None = unpublished(None, affects="result")
    """What would take more is not run: 24GiB, 24GB, 40960MiB. None: what is free."""

    @property
    def limit(self) -> float | None:
        """memory_limit in bytes."""
        text = self.memory_limit
        return None if text is None else parse_size(text, flag("memory_limit"))

    def check(self) -> None:
        """Raises UserError for what is no size."""
        _ = self.limit


@dataclass(frozen=True)
class WorkerOptions:
    """For the process that measures."""

    log: Path = unpublished(Path("steps.jsonl"), affects="nothing")
    """Where it adds its lines."""


@dataclass(frozen=True)
class WorkerSettings(StepSettings):
    measuring: MeasuringOptions = MeasuringOptions()
    worker: WorkerOptions = WorkerOptions()


@dataclass(frozen=True)
class StepMemory:
    """What a step of one batch size needs: bytes and seconds.

    Attributes:
      machine: in words. backend: JAX's name of its kind of device.
      buffers: of the compiled program, as Buffers has them. None if the backend does not tell.
      compile_peak: the most that the process held until the step was compiled.
      before: what it held then, before the weights were drawn.
      room: for the program, where that is known: what was free, or was left of the limit.
      peak: the most of the steps: of the device's allocator, on a CPU of the process.
      seconds: of each step after the first.
      error: why there is no peak.
    """

    batch_size: int
    machine: str = ""
    backend: str = ""
    buffers: dict[str, int] | None = None
    compile_peak: int | None = None
    before: int | None = None
    room: float | None = None
    peak: int | None = None
    seconds: list[float] = field(default_factory=list)
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
        return None if self.buffers is None else Buffers(**self.buffers).total

    def summary(self) -> dict[str, Any]:
        return {**asdict(self), "compiled": self.compiled, "measured": self.measured}


@contextmanager
def open_directory(experiment: str, settings: MemorySettings, console: Console) -> Iterator[Path]:
    """The directory of a run, made or reopened, and announced."""
    options = changed_options(settings, type(settings)(), ("result",))
    identity = {"experiment": experiment, "device": ask_process(_ASK_DEVICE), **options}
    name, output = f"{settings.model.model}-{settings.images.image_size}", settings.output
    directory = output.out or default_directory(experiment, name, identity)
    with open_run_directory(
        directory, identity, asdict(settings), describe_software(), fresh=output.fresh
    ):
        say(console, f"{experiment}: {name}; results in {directory}")
        yield directory


def measure_steps(
    settings: StepSettings,
    batch_sizes: Sequence[int],
    log: Path,
    console: Console,
    measuring: MeasuringOptions = MeasuringOptions(),
) -> list[StepMemory]:
    """Measures each batch size that an earlier start with the same log did not.

    What does not fit has its error, and the others are measured. Of what is far too large by the
    sizes that are compiled already, not even the compilation is tried.

    Raises:
      TrainingFailed: a step failed for another reason than memory, which is printed.
      Stopped: a signal came.
    """
    worker = WorkerSettings(
        settings.model,
        settings.optimizer,
        settings.training,
        settings.images,
        measuring,
        WorkerOptions(log),
    )
    batch_sizes = sorted(batch_sizes)
    for size in batch_sizes:
        if _read(log, size).peak is not None:
            continue
        if error := _foresee(log, size):
            append_json_line(log, {"batch_size": size, "error": error})
            say(console, f"batch size {size}: {error}")
            continue
        say(console, f"batch size {size}: compiling, and {plural(1 + measuring.steps, 'step')} …")
        parts = min(worker.training.accumulate, size)
        arguments = command_line(replace_options(worker, batch_size=size, accumulate=parts))
        status = subprocess_status(_WORKER, arguments, _ENVIRONMENT)
        if status > 0:
            raise TrainingFailed(f"batch size {size} failed: its message is above")
        if status < 0:
            append_json_line(log, {"batch_size": size, "error": f"ended by signal {-status}"})
    return [_read(log, size) for size in batch_sizes]


def check_some_fit(steps: Iterable[StepMemory]) -> None:
    """Raises TrainingFailed if none was measured."""
    if all(step.error for step in steps):
        raise TrainingFailed("no batch size fits: try smaller --batch-sizes")


def _foresee(log: Path, batch_size: int) -> str:
    """Why it is not worth compiling, by the line through those that are; empty if it may be."""
    sizes = dict.fromkeys(line["batch_size"] for line in read_json_lines(log))
    steps = [_read(log, size) for size in sizes]
    line = compiled_line(steps)
    rooms = [step.room for step in steps if step.room is not None]
    if line is None or not rooms or line.at(batch_size) <= _MARGIN * rooms[-1]:
        return ""
    return too_large(line.at(batch_size), rooms[-1])


def compiled_line(steps: Sequence[StepMemory]) -> MemoryLine | None:
    """Through the compiled programs' sizes; None of fewer than two."""
    sizes = {step.batch_size: step.compiled for step in steps}
    return fit_line({n: float(size) for n, size in sizes.items() if size is not None})


def too_large(needed: float, room: float) -> str:
    """Both in bytes."""
    return f"not tried: needs {needed / GIB:.1f} GiB, has {room / GIB:.1f}"


def _read(log: Path, batch_size: int) -> StepMemory:
    """From all lines of that batch size, later ones over earlier ones."""
    record: dict[str, Any] = {"batch_size": batch_size}
    for line in read_json_lines(log):
        if line["batch_size"] == batch_size:
            record |= line
    return StepMemory(**record)
