"""Settings that make it fast yield to the user's."""

import os
import subprocess
import sys

import pytest

from jaxresnet import platform


@pytest.fixture(autouse=True)
def _forget():
    platform.compiler_options.cache_clear()
    yield
    platform.compiler_options.cache_clear()


def test_the_users_xla_flags_win(monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "--xla_cpu_experimental_ynn_fusion_type=none")
    assert platform.compiler_options() == {}


def test_an_option_that_this_compiler_does_not_know_is_left_out(monkeypatch):
    monkeypatch.setattr(platform, "_CPU_OPTIONS", {"xla_cpu_no_such_option": "1"})
    assert platform.compiler_options() == {}


@pytest.mark.parametrize(("variables", "kept"), [({}, True), ({"MALLOC_ARENA_MAX": "4"}, False)])
def test_the_allocator_is_set_unless_the_user_set_it(variables, kept):
    script = (
        "from jaxresnet import platform as p; print(p.keep_freed_memory());"
        "print(p.describe()['freed_memory_kept'])"
    )
    environment = {k: v for k, v in os.environ.items() if not k.startswith("MALLOC_")}
    output = subprocess.run(
        [sys.executable, "-c", script],
        env={**environment, **variables},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    expected = kept and sys.platform == "linux"
    assert output.split() == [str(expected)] * 2
