"""A profiler's trace of a few training steps, named."""

from pathlib import Path

import jax

from jaxresnet.train.training import Programs, Training

_WARM_UP_STEPS, _TRACED_STEPS = 2, 5


def trace_steps(training: Training, programs: Programs, directory: Path) -> int:
    """Traces the first steps of a training, but for two; returns how many.

    Each is "train" with its number, and in it "input" is the wait for the batch. The directory
    gets what TensorBoard, XProf and Perfetto open. An epoch may have fewer steps than wanted.
    """
    state, full = training.initial_state, training.batch_size
    batches = iter(training.loader.epoch(0))
    whole = training.train_size // full
    warm_up = min(_WARM_UP_STEPS, whole - 1)
    traced = min(_TRACED_STEPS, whole - warm_up)
    for _ in range(warm_up):
        state, metrics = programs.train[full](state, *next(batches))
        metrics.loss.block_until_ready()
    with jax.profiler.trace(str(directory)):
        for number in range(traced):
            with jax.profiler.StepTraceAnnotation("train", step_num=number):
                with jax.profiler.TraceAnnotation("input"):
                    batch = next(batches)
                state, metrics = programs.train[full](state, *batch)
                metrics.loss.block_until_ready()
    return traced
