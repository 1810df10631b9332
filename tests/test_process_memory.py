"""What the kernel says of this process's memory."""

import mmap
import sys
from types import SimpleNamespace

import jax
import pytest

from jaxresnet import platform
from jaxresnet.process_memory import held_memory, peak_memory, restart_peak

SIZE = 256 * 2**20


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux lets a peak begin anew")
def test_the_peak_holds_until_it_is_restarted():
    before = held_memory()
    with mmap.mmap(-1, SIZE) as memory:
        for page in range(0, SIZE, mmap.PAGESIZE):
            memory[page] = 1
        assert held_memory() > before + SIZE // 2
    assert held_memory() < before + SIZE // 2 < peak_memory()
    restart_peak()
    assert held_memory() <= peak_memory() < before + SIZE // 2


def test_the_peak_of_a_device_is_its_allocators_and_on_a_cpu_the_process(monkeypatch):
    assert platform.peak_memory() == peak_memory()
    device = SimpleNamespace(memory_stats=lambda: {"peak_bytes_in_use": 12, "bytes_in_use": 3})
    monkeypatch.setattr(jax, "local_devices", lambda: [device])
    assert platform.peak_memory() == 12
