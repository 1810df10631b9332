"""Settings that make it fast yield to the user's."""

import os
import subprocess
import sys
from platform import machine

import jax
import pytest

from jaxresnet import platform


@pytest.fixture(autouse=True)
def _forget():
    """What is known of the compiler is found out anew."""
    cached = (platform._known_options, platform.has_onednn)
    for function in cached:
        function.cache_clear()
    yield
    for function in cached:
        function.cache_clear()


def run_prepared(script: str, **variables: str) -> str:
    """What a new process prints after prepare_process, with these settings of the user alone."""
    read = ("MALLOC_", "GLIBC_TUNABLES", "LD_PRELOAD", "XLA_FLAGS", "JAX_CPU_")
    environment = {k: v for k, v in os.environ.items() if not k.startswith(read)}
    return subprocess.run(
        [
            sys.executable,
            "-c",
            f"from jaxresnet import platform as p; p.prepare_process(); {script}",
        ],
        env={**environment, "JAX_PLATFORMS": "cpu", **variables},
        capture_output=True,
        text=True,
        check=True,
    ).stdout


NAMES = "print([setting.name for setting in p.settings()])"


def test_the_users_xla_flags_win(monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "--xla_cpu_experimental_ynn_fusion_type=none")
    assert "xla_cpu_experimental_ynn_fusion_type" not in platform.compiler_options()


def test_an_option_that_this_compiler_does_not_know_is_left_out(monkeypatch):
    known = platform.compiler_options()
    platform._known_options.cache_clear()
    unknown = platform.Setting("xla_cpu_no_such_option", "1", "it is not")
    monkeypatch.setattr(platform, "_CPU_OPTIONS", [unknown, *platform._CPU_OPTIONS])
    assert platform.compiler_options() == known


def test_another_device_gets_none_of_the_cpus_settings(monkeypatch):
    monkeypatch.setattr("jax.default_backend", lambda: "gpu")
    assert platform.compiler_options() == {}
    assert not platform.has_onednn("float32")


def test_onednn_is_only_claimed_where_convolutions_are_handed_to_it():
    script = "print(p.has_onednn('float32'), p.has_onednn('float64'))"
    flag = "--xla_cpu_experimental_onednn_custom_call=false"
    assert run_prepared(script, XLA_FLAGS=flag).strip() == "False False"


@pytest.mark.skipif(
    machine() != "x86_64" or jax.__version_info__ < (0, 12),
    reason="XLA hands convolutions to oneDNN only in JAX 0.12 and later on x86-64",
)
def test_onednn_is_on_where_it_exists():
    names = run_prepared(NAMES)
    assert "xla_cpu_experimental_onednn_custom_call" in names


@pytest.mark.skipif(
    sys.platform != "linux",
    reason="the settings are those of glibc's allocator, which only Linux has",
)
def test_what_is_on_is_named_unless_the_user_decided():
    names = run_prepared(NAMES)
    assert "glibc mallopt" in names
    assert "jax_cpu_enable_async_dispatch" in names
    names = run_prepared(NAMES, MALLOC_ARENA_MAX="4", JAX_CPU_ENABLE_ASYNC_DISPATCH="false")
    assert "glibc mallopt" not in names
    assert "jax_cpu_enable_async_dispatch" not in names
    tunables = "glibc.malloc.arena_max=4"
    assert "glibc mallopt" not in run_prepared(NAMES, GLIBC_TUNABLES=tunables)


@pytest.mark.skipif(
    sys.platform != "linux",
    reason="the settings are those of glibc's allocator, which only Linux has",
)
def test_a_freed_block_is_reused_without_faults():
    """A bytearray of 20 MB: 5,000 pages of 4 KB."""
    script = """
import resource
def fill():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    bytearray(b'x') * 20_000_000
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
fill(); print(fill())"""
    assert int(run_prepared(script)) < 100
    assert int(run_prepared(script, MALLOC_MMAP_THRESHOLD_="1000000")) > 4000
