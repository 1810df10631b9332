"""The device, and the compiler and memory settings that make it fast.

Nothing here changes what is computed beyond rounding, and settings that the user gave (XLA_FLAGS,
allocator variables) win. Where a setting does not exist it is left out.
XLA's fused CPU kernels, with these settings and with its defaults, may drop a NaN (relu, then a
mean): what must notice one looks at the parameters and statistics, not at the loss alone.
"""

import ctypes
import os
import platform
import sys
from functools import cache
from pathlib import Path

import jax

# XLA:CPU hands whole fused groups of operations to the YNN library, convolutions too, which is
# slower than XLA's own (Eigen) kernels; only for reductions (batch norm's sums) is it faster.
_YNN_OPTION = "xla_cpu_experimental_ynn_fusion_type"
_CPU_OPTIONS = {_YNN_OPTION: "LIBRARY_FUSION_TYPE_REDUCE"}

# From glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_MAX, _M_ARENA_MAX = -1, -4, -8


_freed_memory_kept = False  # for describe()


def keep_freed_memory() -> bool:
    """Tells glibc to reuse freed blocks instead of returning them to the kernel.

    XLA:CPU allocates its temporaries anew for each call; every training step would fault in
    about a gigabyte page by page. Call it before JAX allocates. True if it took effect.
    """
    global _freed_memory_kept
    if sys.platform != "linux" or any(name.startswith("MALLOC_") for name in os.environ):
        return False
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        return False
    # -1: never trim; the largest int would still return anything above 2 GB.
    wanted = {_M_MMAP_MAX: 0, _M_TRIM_THRESHOLD: -1, _M_ARENA_MAX: 1}
    _freed_memory_kept = all(mallopt(parameter, value) for parameter, value in wanted.items())
    return _freed_memory_kept


def cache_compiled_programs(directory: Path) -> None:
    """Keeps compiled programs on disk, so that a second start need not compile again."""
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        jax.config.update("jax_compilation_cache_dir", str(directory))


@cache
def compiler_options() -> dict[str, str]:
    """Options for jax.jit(..., compiler_options=...) on the default device; maybe none."""
    if jax.default_backend() != "cpu" or _YNN_OPTION in os.environ.get("XLA_FLAGS", ""):
        return {}
    try:
        jax.jit(lambda x: x + 1, compiler_options=_CPU_OPTIONS).lower(0).compile()
    except jax.errors.JaxRuntimeError:  # this jaxlib does not know the option
        return {}
    return dict(_CPU_OPTIONS)


def describe() -> dict[str, object]:
    """Device, processor and settings, for environment.json."""
    device = jax.devices()[0]
    return {
        "backend": jax.default_backend(),
        "device": device.device_kind,
        "device_count": jax.device_count(),
        "processor": _processor(),
        "cpu_threads": _cpu_threads(),
        "system": f"{platform.system()} {platform.release()}",
        "compiler_options": compiler_options(),
        "freed_memory_kept": _freed_memory_kept,
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS"),
        "XLA_FLAGS": os.environ.get("XLA_FLAGS"),
        "JAX_PLATFORMS": os.environ.get("JAX_PLATFORMS"),
    }


def machine() -> str:
    """Device, threads and JAX version in a few words."""
    device = jax.devices()[0].device_kind
    if jax.default_backend() == "cpu":
        device = f"{_processor()}, {_cpu_threads()} threads"
    return f"JAX {jax.__version__} on {device}"


def _cpu_threads() -> int | None:
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
