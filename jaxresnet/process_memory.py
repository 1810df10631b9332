"""The memory of this process and of the machine, in bytes, from Linux's /proc if there is one."""

import resource
import sys
from contextlib import suppress
from pathlib import Path


def held_memory() -> int:
    """What it holds now; without /proc, the most that it has held."""
    return _read("VmRSS")


def peak_memory() -> int:
    """The most that it has held since it began, or since restart_peak."""
    return _read("VmHWM")


def restart_peak() -> None:
    """Lets peak_memory begin anew, where the kernel can."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")


def available_memory() -> int | None:
    """What the machine can still give without swapping; None without /proc."""
    try:
        meminfo = Path("/proc/meminfo").read_text(encoding="utf-8")
        return int(meminfo.partition("MemAvailable:")[2].split()[0]) * 1024
    except (OSError, IndexError):
        return None


def _read(name: str) -> int:
    """Not from getrusage if possible: its peak also counts what the parent held when it forked."""
    try:
        status = Path("/proc/self/status").read_text(encoding="utf-8")
        return int(status.partition(f"{name}:")[2].split()[0]) * 1024
    except (OSError, IndexError):
        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
