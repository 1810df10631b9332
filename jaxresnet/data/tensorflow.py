"""TensorFlow, for tf.data and TFDS alone: imported late, quietly, and kept off JAX's GPU."""

import contextlib
import importlib
import logging
import os
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import ModuleType

from jaxresnet.errors import UserError


@cache
def import_tensorflow() -> ModuleType:
    """The tensorflow module, after some seconds the first time; UserError without it."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    tensorflow = _import_quietly("tensorflow")
    tensorflow.config.set_visible_devices([], "GPU")
    tensorflow.get_logger().setLevel(logging.ERROR)
    return tensorflow


@cache
def import_tfds() -> ModuleType:
    """The tensorflow_datasets module; UserError without it."""
    import_tensorflow()
    tfds = _import_quietly("tensorflow_datasets")
    logging.getLogger("absl").setLevel(logging.ERROR)
    return tfds


def _import_quietly(name: str) -> ModuleType:
    try:
        with native_messages_dropped():
            return importlib.import_module(name)
    except ImportError as error:
        raise UserError(
            f"{name} is not installed ({error}): the tf.data loader and TFDS need it; install "
            "tensorflow-cpu, or use --loader resident and images in another layout"
        ) from error


@contextlib.contextmanager
def native_messages_dropped() -> Iterator[None]:
    """Sends what C++ writes to standard error nowhere: its start-up banners obey no setting."""
    saved = os.dup(2)
    with Path(os.devnull).open("wb") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
