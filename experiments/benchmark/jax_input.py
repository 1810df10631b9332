"""This project's input pipeline as a contestant: tf.data, then normalisation by JAX."""

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
from jaxresnet.data.tensorflow import import_tensorflow


def set_up(settings: dict[str, Any]) -> tuple[Answer, Repeat]:
    """Makes the loader. "images", "labels": .npy files; "workers": of the loader."""
    platform.prepare_process()
    started = time.perf_counter()
    batch_size = settings["batch_size"]
    split = Split(np.load(settings["images"]), np.load(settings["labels"]))
    loader = TfDataLoader(
        split, batch_size=batch_size, seed=0, workers=settings["workers"], prefetch=2
    )
    prepare = jax.jit(normalise, compiler_options=platform.compiler_options())
    for size in {min(batch_size, len(split)), len(split) % batch_size or batch_size}:
        prepare(split.images[:size]).block_until_ready()
    epochs = itertools.count()

    def repeat(count: int) -> Answer:
        started, images = time.perf_counter(), 0
        batches = loader.epoch(next(epochs))
        for batch in itertools.islice(batches, count):
            prepare(batch.images).block_until_ready()
            images += len(batch.labels)
        del batches
        return {"seconds": [time.perf_counter() - started], "images": images}

    repeat(settings["warmup"])
    ready = {
        "framework": f"JAX {jax.__version__}, TensorFlow {import_tensorflow().__version__}",
        "transforms": "tf.data and JAX",
        "set_up_seconds": time.perf_counter() - started,
    }
    return ready, repeat
