"""Strict arithmetic, and a cache directory of the tests' own."""

import os
from pathlib import Path

import jax
import pytest

from jaxresnet import platform
from jaxresnet.train.loop import Trainer

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


@pytest.fixture(autouse=True)
def _explicit_transfers(monkeypatch: pytest.MonkeyPatch) -> None:
    """While training, arrays go to the device by the loop's own doing, in any of its threads.

    A copy that nobody asked for would be counted as computation.
    """
    run = Trainer.run

    def guarded(self: Trainer) -> None:
        jax.config.update("jax_transfer_guard", "disallow")
        try:
            run(self)
        finally:
            jax.config.update("jax_transfer_guard", None)

    monkeypatch.setattr(Trainer, "run", guarded)
