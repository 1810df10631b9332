"""This project's loaders as contestants: what they hand out, augmented and normalised by JAX."""

import itertools
import sys
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import jax
import numpy as np

from experiments.bench.worker import Answer, Repeat, set_up_loader
from jaxresnet import platform
from jaxresnet.data.augment import AUGMENTATIONS
from jaxresnet.data.dataset import Split, normalise
from jaxresnet.data.loaders import LoaderOptions

_LIBRARIES = {"jax": "JAX", "tensorflow": "TensorFlow"}  # the latter if the loader imports it


def set_up(settings: dict[str, Any]) -> tuple[Answer, Repeat]:
    """Makes the loader; see input.py for the settings."""
    platform.prepare_process()
    timed, repeat = set_up_loader(partial(_make_epochs, settings), settings)
    imported = [name for name in _LIBRARIES if name in sys.modules]
    framework = ", ".join(
        f"{_LIBRARIES[name]} {sys.modules[name].__version__}" for name in imported
    )
    return {"framework": framework, "transforms": settings["loader"]["loader"], **timed}, repeat


def _make_epochs(settings: dict[str, Any]) -> Callable[[], Iterator[int]]:
    batch_size = settings["batch_size"]
    split = Split(np.load(settings["images"]), np.load(settings["labels"]))
    options = LoaderOptions(**settings["loader"])
    loader = options.create(split, AUGMENTATIONS["crop-flip"], batch_size, seed=0)

    def prepare(*arguments: Any) -> jax.Array:
        return normalise(loader.read(*arguments).images, settings["mean"], settings["std"])

    jitted = jax.jit(prepare, compiler_options=platform.compiler_options())
    sizes = {min(batch_size, len(split)), len(split) % batch_size or batch_size}
    compiled = {size: jitted.lower(*loader.arguments(size)).compile() for size in sizes}
    epochs = itertools.count()

    def begin_epoch() -> Iterator[int]:
        left = len(split)
        for arguments in loader.epoch(next(epochs)):
            size = min(batch_size, left)
            compiled[size](*arguments).block_until_ready()
            left -= size
            yield size

    return begin_epoch
