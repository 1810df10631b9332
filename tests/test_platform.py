"""Settings that make it fast yield to the user's."""

import os
import subprocess
import sys

import pytest

from jaxresnet import platform


@pytest.fixture(autouse=True)
def _forget():
    yield
    platform.compiler_options.cache_clear()
    platform.has_onednn.cache_clear()


@pytest.fixture
def fresh(_forget):
    platform.compiler_options.cache_clear()
    platform.has_onednn.cache_clear()


def run_prepared(script: str, **variables: str) -> str:
    """What a new process prints after prepare_process, with these settings of the user alone."""
    ours = ("MALLOC_", "XLA_FLAGS", "JAX_CPU_")
    environment = {k: v for k, v in os.environ.items() if not k.startswith(ours)}
    return subprocess.run(
        [
            sys.executable,
            "-c",
            f"from jaxresnet import platform as p; p.prepare_process(); {script}",
        ],
        env={**environment, **variables},
        capture_output=True,
        text=True,
        check=True,
    ).stdout


NAMES = "print([setting.name for setting in p.settings()])"


@pytest.mark.usefixtures("fresh")
def test_the_users_xla_flags_win(monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "--xla_cpu_experimental_ynn_fusion_type=none")
    assert "xla_cpu_experimental_ynn_fusion_type" not in platform.compiler_options()


@pytest.mark.usefixtures("fresh")
def test_an_option_that_this_compiler_does_not_know_is_left_out(monkeypatch):
    known = platform.compiler_options()
    platform.compiler_options.cache_clear()
    options = {"xla_cpu_no_such_option": "1", **platform._CPU_OPTIONS}
    monkeypatch.setattr(platform, "_CPU_OPTIONS", options)
    assert platform.compiler_options() == known


@pytest.mark.usefixtures("fresh")
def test_another_device_gets_none_of_the_cpus_settings(monkeypatch):
    monkeypatch.setattr("jax.default_backend", lambda: "gpu")
    assert platform.compiler_options() == {}
    assert not platform.has_onednn()


def test_onednn_is_only_claimed_where_convolutions_are_handed_to_it():
    script = "print(p.has_onednn())"
    flag = "--xla_cpu_experimental_onednn_custom_call=false"
    assert run_prepared(script, XLA_FLAGS=flag).strip() == "False"


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's allocator")
def test_what_is_on_is_named_unless_the_user_decided():
    names = run_prepared(NAMES)
    assert "glibc mallopt" in names
    assert "jax_cpu_enable_async_dispatch" in names
    names = run_prepared(NAMES, MALLOC_ARENA_MAX="4", JAX_CPU_ENABLE_ASYNC_DISPATCH="true")
    assert "glibc mallopt" not in names
    assert "jax_cpu_enable_async_dispatch" not in names


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's allocator")
def test_a_freed_block_is_reused_without_faults():
    """A second array of 64 MB costs no page faults; without the setting, 16,384."""
    script = """
import resource, numpy
def fill():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    numpy.ones(2**23)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
fill(); print(fill())"""
    assert int(run_prepared(script)) < 1000
