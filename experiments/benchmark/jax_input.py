"""This project's loaders as contestants: what they hand out, cut and normalised by JAX."""

import itertools
import time
from typing import Any

import jax
import numpy as np

from experiments.benchmark.worker import Answer, Repeat
from jaxresnet import platform
from jaxresnet.data.augment import normalise
from jaxresnet.data.dataset import Split
from jaxresnet.data.pipeline import TfDataLoader
from jaxresnet.data.resident import ResidentLoader
from jaxresnet.data.tensorflow import import_tensorflow


def set_up(settings: dict[str, Any]) -> tuple[Answer, Repeat]:
    """Makes the loader. "images", "labels": .npy files; "loader": tfdata or resident."""
    platform.prepare_process()
    started = time.perf_counter()
    batch_size = settings["batch_size"]
    split = Split(np.load(settings["images"]), np.load(settings["labels"]))
    if settings["loader"] == "resident":
        loader = ResidentLoader(split, batch_size=batch_size, seed=0)
    else:
        loader = TfDataLoader(
            split, batch_size=batch_size, seed=0, workers=settings["workers"], prefetch=2
        )

    def prepare(*arguments: jax.Array) -> jax.Array:
        return normalise(loader.read(*arguments).images)

    jitted = jax.jit(prepare, compiler_options=platform.compiler_options())
    sizes = {min(batch_size, len(split)), len(split) % batch_size or batch_size}
    compiled = {size: jitted.lower(*loader.arguments(size)).compile() for size in sizes}
    epochs = itertools.count()

    def repeat(count: int) -> Answer:
        started, images = time.perf_counter(), 0
        batches = loader.epoch(next(epochs))
        for arguments in itertools.islice(batches, count):
            size = min(batch_size, len(split) - images)
            compiled[size](*arguments).block_until_ready()
            images += size
        del batches
        return {"seconds": [time.perf_counter() - started], "images": images}

    repeat(settings["warmup"])
    ready = {
        "framework": f"JAX {jax.__version__}, TensorFlow {import_tensorflow().__version__}",
        "transforms": settings["loader"],
        "set_up_seconds": time.perf_counter() - started,
    }
    return ready, repeat
