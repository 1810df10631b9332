"""Strict arithmetic, and a cache directory of the tests' own."""

import os
from pathlib import Path

import jax
import pytest

from jaxresnet import platform

jax.config.update("jax_numpy_dtype_promotion", "strict")


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Decoded data and compiled programs are kept for the session, away from the user's."""
    directory = tmp_path_factory.mktemp("cache")
    os.environ["XDG_CACHE_HOME"] = str(directory)
    if not platform.has_onednn("float32"):  # such programs cannot be written
        os.environ["JAX_COMPILATION_CACHE_DIR"] = str(directory / "compiled")
        jax.config.update("jax_compilation_cache_dir", str(directory / "compiled"))
    return directory
