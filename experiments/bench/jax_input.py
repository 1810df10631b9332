"""This project's loaders as contestants: what they hand out, augmented and normalised by JAX."""

import itertools
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np

from experiments.bench.worker import Answer, Settings, Work, set_up_loader
from jaxresnet import platform
from jaxresnet.data.augment import AUGMENTATIONS
from jaxresnet.data.dataset import Split, normalise
from jaxresnet.data.loaders import LoaderOptions
from jaxresnet.data.pictures import EncodedImages

_LIBRARIES = {"jax": "JAX", "tensorflow": "TensorFlow"}  # the latter if the loader imports it


def set_up(settings: Settings) -> tuple[Answer, Work]:
    """Makes the loader; see input.py for the settings."""
    platform.prepare_process()
    ready, work = set_up_loader(settings, _make_epochs)
    imported = {title: sys.modules.get(name) for name, title in _LIBRARIES.items()}
    versions = [f"{title} {module.__version__}" for title, module in imported.items() if module]
    software = {"framework": ", ".join(versions), "transforms": settings["group"]}
    return {**software, **ready}, work


def _make_epochs(settings: Settings) -> Callable[[], Iterator[int]]:
    batch_size, split = settings["batch_size"], _read_split(settings)
    options = LoaderOptions(loader=settings["loader"], workers=settings["workers"])
    loader = options.create(split, AUGMENTATIONS[settings["augment"]], batch_size, seed=0)

    def prepare(*arguments: Any) -> jax.Array:
        return normalise(loader.read(*arguments).images, settings["mean"], settings["std"])

    jitted = jax.jit(prepare, compiler_options=platform.compiler_options())
    sizes = [min(batch_size, len(split) - first) for first in range(0, len(split), batch_size)]
    compiled = {size: jitted.lower(*loader.arguments(size)).compile() for size in set(sizes)}
    epochs = itertools.count()

    def begin_epoch() -> Iterator[int]:
        for size, arguments in zip(sizes, loader.epoch(next(epochs)), strict=True):
            compiled[size](*jax.device_put(tuple(arguments))).block_until_ready()
            yield size

    return begin_epoch


def _read_split(settings: Settings) -> Split:
    with np.load(settings["images"]) as file:
        arrays = dict(file)
    labels = arrays.pop("labels")
    if settings["root"] is None:
        return Split(arrays["pixels"], labels, settings["image_size"])
    images = EncodedImages(Path(settings["root"]), **arrays, fast=settings["fast"])
    return Split(images, labels, settings["image_size"])
