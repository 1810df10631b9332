"""The device, and the compiler, memory and dispatch settings that make it fast.

Nothing here changes what is computed beyond rounding, and settings that the user gave (XLA_FLAGS,
allocator and JAX variables) win. Where a setting does not exist it is left out.
XLA's fused CPU kernels, with these settings and with its defaults, may drop a NaN (relu, then a
mean): what must notice one looks at the parameters and statistics, not at the loss alone.
"""

import ctypes
import os
import platform
from collections.abc import Callable
from contextlib import suppress
from functools import cache, partial
from pathlib import Path
from typing import NamedTuple

import jax

from jaxresnet import process_memory
from jaxresnet.options import plural


class Setting(NamedTuple):
    """Something that is switched on, and why that is safe."""

    name: str
    value: str | bool
    why: str


_ONEDNN = Setting(
    "xla_cpu_experimental_onednn_custom_call",
    True,
    "convolutions and matrix products run in oneDNN, which PyTorch uses too",
)
_CPU_OPTIONS = [
    Setting(
        "xla_cpu_experimental_ynn_fusion_type",
        "LIBRARY_FUSION_TYPE_REDUCE",
        "XLA's YNN library is kept to sums, where it is fast; it only chooses kernels",
    ),
    _ONEDNN,
]

# Number in glibc's malloc.h, and value. -1: never trim; the largest int would still return anything
# above 2 GB. And 64 MiB to spare: else a small block cut from a step's memory can leave too little
# there for the next step.
_MALLOC = {"M_MMAP_MAX": (-4, 0), "M_TRIM_THRESHOLD": (-1, -1), "M_TOP_PAD": (-2, 2**26)}
_MEMORY = Setting(
    "glibc mallopt",
    " ".join(f"{name}={value}" for name, (_, value) in _MALLOC.items()),
    "freed memory is reused instead of faulted in again, by each step on a CPU; the process keeps "
    "its peak",
)
_DISPATCH = Setting(
    "jax_cpu_enable_async_dispatch",
    False,
    "a step's memory is free again before the next one starts; the loader's workers still make "
    "batches meanwhile",
)
_REPORTED_VARIABLES = ("OMP_NUM_THREADS", "XLA_FLAGS", "JAX_PLATFORMS")
_applied: list[Setting] = []  # by prepare_process


def prepare_process() -> None:
    """Sets the allocator and the dispatch; call it before JAX allocates."""
    attempts = {_MEMORY: _keep_freed_memory, _DISPATCH: _dispatch_in_the_call}
    _applied[:] = [setting for setting, apply in attempts.items() if apply()]


def _keep_freed_memory() -> bool:
    """Tells glibc to reuse freed blocks instead of returning them to the kernel."""
    mallopt = _libc_function("mallopt")
    set_by_user = (
        any(name.startswith("MALLOC_") for name in os.environ)
        or "glibc.malloc" in os.environ.get("GLIBC_TUNABLES", "")
        or "malloc" in os.environ.get("LD_PRELOAD", "")
    )
    return mallopt is not None and not set_by_user and all(mallopt(*p) for p in _MALLOC.values())


def _dispatch_in_the_call() -> bool:
    """Tells JAX to run CPU programs in the call that asks for them."""
    applies = _DISPATCH.name in jax.config.values and _DISPATCH.name.upper() not in os.environ
    if applies:
        jax.config.update(_DISPATCH.name, _DISPATCH.value)
    return applies


def release_unused_memory() -> None:
    """Returns what compiling has left in the allocator to the kernel; training does not need it."""
    malloc_trim = _libc_function("malloc_trim")
    if _MEMORY in _applied and malloc_trim is not None:
        malloc_trim(0)


def _libc_function(name: str) -> Callable[..., int] | None:
    """A function of glibc, None where there is none."""
    try:
        return getattr(ctypes.CDLL("libc.so.6"), name)
    except (OSError, AttributeError):
        return None


def cache_compiled_programs(directory: Path) -> None:
    """Keeps compiled programs on disk, so that a second start need not compile again.

    Not where they call oneDNN: JAX 0.12 fails to write those, with a warning for each.
    """
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ and not has_onednn("float32"):
        jax.config.update("jax_compilation_cache_dir", str(directory))


def compiler_options() -> dict[str, str | bool]:
    """Options for jax.jit(..., compiler_options=...) on the default device; maybe none."""
    onednn = has_onednn("float32")
    return {n: value for n, value in _known_options().items() if n != _ONEDNN.name or onednn}


@cache
def _known_options() -> dict[str, str | bool]:
    flags, on_cpu = os.environ.get("XLA_FLAGS", ""), jax.default_backend() == "cpu"
    wanted = {s.name: s.value for s in _CPU_OPTIONS if on_cpu and s.name not in flags}
    known = {}
    for name, value in wanted.items():
        with suppress(jax.errors.JaxRuntimeError):  # of a jaxlib that does not know the option
            jax.jit(lambda x: x + 1, compiler_options={name: value}).lower(0).compile()
            known[name] = value
    return known


@cache
def has_onednn(dtype: str) -> bool:
    """Whether XLA hands convolutions of that dtype to oneDNN.

    Found out by compiling one: an older jaxlib takes the option and does not, and not every
    processor has oneDNN's bfloat16.
    """
    if jax.default_backend() != "cpu":
        return False

    @partial(jax.jit, compiler_options=_known_options())
    def convolve(x: jax.Array, kernel: jax.Array) -> jax.Array:
        axes = ("NHWC", "HWIO", "NHWC")
        return jax.lax.conv_general_dilated(x, kernel, (1, 1), "VALID", dimension_numbers=axes)

    shapes = [jax.ShapeDtypeStruct(shape, dtype) for shape in ((1, 8, 8, 16), (3, 3, 16, 16))]
    return "__onednn$convolution" in (convolve.lower(*shapes).compile().as_text() or "")


def settings() -> list[Setting]:
    """What was switched on here, for environment.json and --verbose."""
    options = compiler_options()
    if has_onednn("float32"):
        options.setdefault(_ONEDNN.name, "by XLA_FLAGS")
    compiler = [
        Setting(f"compiler option {name}", options[name], why)
        for name, _, why in _CPU_OPTIONS
        if name in options
    ]
    on_cpu = jax.default_backend() == "cpu"
    return compiler + [s for s in _applied if s != _DISPATCH or on_cpu]


def describe() -> dict[str, object]:
    """Device, processor and settings, for environment.json."""
    return {
        "backend": jax.default_backend(),
        "device": jax.devices()[0].device_kind,
        "device_count": jax.device_count(),
        "processor": _processor(),
        "cpu_threads": cpu_threads(),
        "system": f"{platform.system()} {platform.release()}",
        "fast_settings": [setting._asdict() for setting in settings()],
        **{name: os.environ.get(name) for name in _REPORTED_VARIABLES},
    }


def machine() -> str:
    """Device, threads and JAX version in a few words."""
    return f"JAX {jax.__version__} on {device()}"


def device() -> str:
    """The device's kind, or the processor and its threads."""
    if jax.default_backend() == "cpu":
        return f"{_processor()}, {plural(cpu_threads() or 1, 'thread')}"
    return jax.devices()[0].device_kind


def peak_memory() -> int:
    """The most bytes held so far, by the device's allocator or on a CPU by the process.

    0 where the allocator does not count.
    """
    statistics = jax.local_devices()[0].memory_stats()
    if statistics is None:
        return process_memory.peak_memory()
    return statistics.get("peak_bytes_in_use", 0)


def cpu_threads() -> int | None:
    """The threads that this process may use, which can be fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())
