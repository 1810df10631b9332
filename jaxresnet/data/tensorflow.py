"""TensorFlow, imported late, quietly, and kept off the GPU.

Only data/ uses it, for tf.data and TFDS; the device belongs to JAX.
"""

import contextlib
import logging
import os
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import ModuleType


@cache
def import_tensorflow() -> ModuleType:
    """The tensorflow module, seeing no GPU. Takes some seconds the first time."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with native_messages_dropped():
        import tensorflow

        tensorflow.config.set_visible_devices([], "GPU")
    tensorflow.get_logger().setLevel(logging.ERROR)
    return tensorflow


@cache
def import_tfds() -> ModuleType:
    """The tensorflow_datasets module."""
    import_tensorflow()
    with native_messages_dropped():
        import tensorflow_datasets
    logging.getLogger("absl").setLevel(logging.ERROR)
    return tensorflow_datasets


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
