"""Strict arithmetic, and a cache directory of the tests' own."""

import os
from pathlib import Path

import jax
import pytest

jax.config.update("jax_numpy_dtype_promotion", "strict")


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Decoded data and compiled programs are kept for the session, away from the user's."""
    directory = tmp_path_factory.mktemp("cache")
    os.environ["XDG_CACHE_HOME"] = str(directory)
    os.environ["JAX_COMPILATION_CACHE_DIR"] = str(directory / "compiled")
    jax.config.update("jax_compilation_cache_dir", str(directory / "compiled"))
    return directory
