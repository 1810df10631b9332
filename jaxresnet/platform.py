"""The device, and the compiler, memory and dispatch settings that make it fast.

Nothing here changes what is computed beyond rounding, and settings that the user gave (XLA_FLAGS,
allocator and JAX variables) win. Where a setting does not exist it is left out.
XLA's fused CPU kernels, with these settings and with its defaults, may drop a NaN (relu, then a
mean): what must notice one looks at the parameters and statistics, not at the loss alone.
"""

import ctypes
import os
import platform
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import NamedTuple

import jax

_YNN, _ONEDNN = "xla_cpu_experimental_ynn_fusion_type", "xla_cpu_experimental_onednn_custom_call"
_CPU_OPTIONS: dict[str, str | bool] = {_YNN: "LIBRARY_FUSION_TYPE_REDUCE", _ONEDNN: True}

# From glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4

_freed_memory_kept = _dispatch_inline = False  # for settings()


class Setting(NamedTuple):
    """Something that was switched on, and why that is safe."""

    name: str
    value: str
    why: str


def prepare_process() -> None:
    """Sets the allocator and the dispatch; call it before JAX allocates."""
    global _freed_memory_kept, _dispatch_inline
    _freed_memory_kept = _keep_freed_memory()
    _dispatch_inline = _dispatch_in_the_call()


def _keep_freed_memory() -> bool:
    """Tells glibc to reuse freed blocks instead of returning them to the kernel."""
    mallopt = _libc_function("mallopt")
    users = (
        any(name.startswith("MALLOC_") for name in os.environ)
        or "glibc.malloc" in os.environ.get("GLIBC_TUNABLES", "")
        or "malloc" in os.environ.get("LD_PRELOAD", "")
    )
    if mallopt is None or users:
        return False
    # -1: never trim; the largest int would still return anything above 2 GB. And 64 MiB to spare:
    # else a small block cut from a step's memory can leave too little there for the next step.
    wanted = {_M_MMAP_MAX: 0, _M_TRIM_THRESHOLD: -1, _M_TOP_PAD: 2**26}
    return all(mallopt(parameter, value) for parameter, value in wanted.items())


def _dispatch_in_the_call() -> bool:
    """Tells JAX to run CPU programs in the call that asks for them."""
    if "JAX_CPU_ENABLE_ASYNC_DISPATCH" in os.environ:
        return False
    try:
        jax.config.update("jax_cpu_enable_async_dispatch", False)
    except AttributeError:  # another JAX
        return False
    return True


def release_unused_memory() -> None:
    """Returns what compiling has left in the allocator to the kernel; training does not need it."""
    if _freed_memory_kept:
        malloc_trim = _libc_function("malloc_trim")
        if malloc_trim is not None:
            malloc_trim(0)


def _libc_function(name: str) -> Callable[..., int] | None:
    """A function of glibc, None where there is none."""
    if sys.platform != "linux":
        return None
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
    options = dict(_known_options())
    if not has_onednn("float32"):
        options.pop(_ONEDNN, None)
    return options


@cache
def _known_options() -> dict[str, str | bool]:
    if jax.default_backend() != "cpu":
        return {}
    flags = os.environ.get("XLA_FLAGS", "")
    wanted = {name: value for name, value in _CPU_OPTIONS.items() if name not in flags}
    return {name: value for name, value in wanted.items() if _is_known(name, value)}


def _is_known(name: str, value: str | bool) -> bool:
    try:
        jax.jit(lambda x: x + 1, compiler_options={name: value}).lower(0).compile()
    except jax.errors.JaxRuntimeError:  # this jaxlib does not know the option
        return False
    return True


@cache
def has_onednn(dtype: str) -> bool:
    """Whether XLA hands convolutions of that dtype to oneDNN.

    Found out by compiling one: an older jaxlib takes the option and does not, and not every
    processor has oneDNN's bfloat16.
    """
    if jax.default_backend() != "cpu":
        return False

    def convolve(x: jax.Array, kernel: jax.Array) -> jax.Array:
        return jax.lax.conv_general_dilated(
            x, kernel, (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )

    shapes = [jax.ShapeDtypeStruct(shape, dtype) for shape in ((1, 8, 8, 16), (3, 3, 16, 16))]
    program = jax.jit(convolve, compiler_options=_known_options()).lower(*shapes).compile()
    return "__onednn$convolution" in (program.as_text() or "")


def settings() -> list[Setting]:
    """What was switched on here, for environment.json and --verbose."""
    found = []
    options = compiler_options()
    if _YNN in options:
        found.append(
            Setting(
                f"compiler option {_YNN}",
                str(options[_YNN]),
                "XLA's YNN library is kept to sums, where it is fast; it only chooses kernels",
            )
        )
    if has_onednn("float32"):
        found.append(
            Setting(
                f"compiler option {_ONEDNN}",
                str(options.get(_ONEDNN, "by XLA_FLAGS")),
                "convolutions and matrix products run in oneDNN, which PyTorch uses too",
            )
        )
    if _freed_memory_kept:
        found.append(
            Setting(
                "glibc mallopt",
                "M_MMAP_MAX=0 M_TRIM_THRESHOLD=-1 M_TOP_PAD=67108864",
                "freed memory is reused instead of faulted in again, by each step on a CPU; the "
                "process keeps its peak",
            )
        )
    if jax.default_backend() == "cpu" and _dispatch_inline:
        found.append(
            Setting(
                "jax_cpu_enable_async_dispatch",
                "False",
                "a step's memory is free again before the next one starts; tf.data's workers "
                "still make batches meanwhile",
            )
        )
    return found


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
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS"),
        "XLA_FLAGS": os.environ.get("XLA_FLAGS"),
        "JAX_PLATFORMS": os.environ.get("JAX_PLATFORMS"),
    }


def machine() -> str:
    """Device, threads and JAX version in a few words."""
    return f"JAX {jax.__version__} on {device()}"


def device() -> str:
    """The device's kind, or the processor and its threads."""
    if jax.default_backend() == "cpu":
        return f"{_processor()}, {cpu_threads()} threads"
    return jax.devices()[0].device_kind


def cpu_threads() -> int | None:
    """The threads that this process may use, which can be fewer than the machine has."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count()


def _processor() -> str:
    try:
        with Path("/proc/cpuinfo").open(encoding="utf-8") as file:
            for line in file:
                if line.startswith("model name"):
                    return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
