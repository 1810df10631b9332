"""A training step that takes its batch in parts, in the memory of a part.

Gradients are summed, each part's weighted by its share of the images, and parameters change once.
Without batch normalisation that is the step of the whole batch but for rounding; with it, each part
is normalised by itself, and running statistics advance part by part, as in PyTorch with several
backward passes before a step of the optimizer.

Each part is a call of one compiled program. As a loop inside a single program they would be slow on
a CPU, where oneDNN is not given the convolutions in loops, and written out one after the other they
would take as many times as long to compile.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxresnet import platform
from jaxresnet.data.dataset import Batch
from jaxresnet.train.state import Arrays, TrainState
from jaxresnet.train.step import Gradient, Metrics, StepFunctions


class Part(NamedTuple):
    """What a part leaves for the update, besides the sums.

    Attributes:
      minimised, loss: () times the part's share of the images. logits, labels: of the part.
    """

    minimised: jax.Array
    loss: jax.Array
    logits: jax.Array
    labels: Any


def make_step(functions: StepFunctions, parts: int) -> Any:
    """The training step to be lowered and compiled, whose batches are taken in so many parts."""
    return functions.jit() if parts == 1 else AccumulatingStep(functions, parts)


@dataclass(frozen=True)
class AccumulatingStep:
    """What is lowered, compiled and called like a jitted step, and takes its batch in parts."""

    functions: StepFunctions
    parts: int

    def lower(self, state: TrainState, *arguments: Any) -> "PartPrograms":
        """For arguments of `read` by shape. No part is empty, and sizes differ by one at most."""
        images = len(jax.eval_shape(self.functions.read, *arguments).labels)
        sizes = [len(part) for part in np.array_split(np.arange(images), min(self.parts, images))]
        jit = partial(jax.jit, compiler_options=platform.compiler_options())
        zeros = jit(partial(jax.tree.map, jnp.zeros_like))
        sums = jax.eval_shape(zeros, state.params)
        scalar = jax.ShapeDtypeStruct((), np.int32)
        inputs = state.params, state.batch_stats, sums, state.step, scalar, scalar, *arguments
        takes = {size: partial(self._take_part, size, size / images) for size in {*sizes}}
        parts = [jax.eval_shape(takes[size], *inputs)[2] for size in sizes]
        return PartPrograms(
            sizes,
            zeros.lower(state.params),
            {n: jit(take, donate_argnums=(1, 2)).lower(*inputs) for n, take in takes.items()},
            jit(self._update, donate_argnums=0).lower(state, sums, parts),
            held=sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(state[3:])),
        )

    def _take_part(
        self,
        size: int,
        share: float,
        params: Arrays,
        batch_stats: Arrays,
        sums: Arrays,
        step: jax.Array,
        number: jax.Array,
        start: jax.Array,
        *arguments: Any,
    ) -> tuple[Arrays, Arrays, Part]:
        """Adds the gradient of `size` images, from `start` on: (batch_stats, sums, the rest)."""
        batch = self.functions.read(*arguments)
        batch = Batch(*(jax.lax.dynamic_slice_in_dim(x, start, size) for x in batch))
        key = jax.random.fold_in(self.functions.dropout_key(step), number)
        gradient = self.functions.gradient(params, batch_stats, batch, key)
        sums = jax.tree.map(lambda total, g: total + share * g, sums, gradient.gradients)
        part = share * gradient.minimised, share * gradient.loss, gradient.logits, gradient.labels
        return gradient.batch_stats, sums, Part(*part)

    def _update(
        self, state: TrainState, sums: Arrays, parts: Sequence[Part]
    ) -> tuple[TrainState, Metrics]:
        minimised, loss, logits, labels = zip(*parts, strict=True)
        gradient = Gradient(
            sums,
            jnp.stack(minimised).sum(),
            jnp.stack(loss).sum(),
            jnp.concatenate(logits),
            jnp.concatenate(labels),
            state.batch_stats,
        )
        return self.functions.update(state, gradient)


@dataclass(frozen=True)
class PartPrograms:
    """The programs of a step, lowered or compiled.

    Attributes:
      sizes: of the parts, in order.
      zeros: parameters -> sums to begin with. take: by a part's size. update: the last.
      held: bytes of the state that `take` is not given.
    """

    sizes: Sequence[int]
    zeros: Any
    take: Mapping[int, Any]
    update: Any
    held: int

    def compile(self) -> "PartPrograms":
        take = {size: program.compile() for size, program in self.take.items()}
        compiled = self.zeros.compile(), take, self.update.compile()
        return PartPrograms(self.sizes, *compiled, held=self.held)

    def __call__(self, state: TrainState, *arguments: Any) -> tuple[TrainState, Metrics]:
        """The step; its state is donated."""
        sums, batch_stats, parts = self.zeros(state.params), state.batch_stats, []
        starts = np.cumsum([0, *self.sizes[:-1]], dtype=np.int32)
        for number, (size, start) in enumerate(zip(self.sizes, starts, strict=True)):
            place = jax.device_put((state.step, np.int32(number), start))
            batch_stats, sums, part = self.take[size](
                state.params, batch_stats, sums, *place, *arguments
            )
            parts.append(part)
        return self.update(state._replace(batch_stats=batch_stats), sums, parts)

    def buffers(self) -> "Buffers | None":
        """Of the program that needs most."""
        programs = [(program, self.held) for program in self.take.values()] + [(self.update, 0)]
        found = [(step_buffers(program), held) for program, held in programs]
        sizes = [b._replace(arguments=b.arguments + held) for b, held in found if b is not None]
        return max(sizes, key=lambda buffers: buffers.total) if len(sizes) == len(found) else None


class Buffers(NamedTuple):
    """Bytes that a compiled program needs, by the compiler; aliased: outputs that are arguments."""

    arguments: int
    outputs: int
    temporaries: int
    aliased: int

    @property
    def total(self) -> int:
        return self.arguments + self.outputs + self.temporaries - self.aliased


def step_buffers(step: Any) -> Buffers | None:
    """Of a compiled step, in parts or whole; None if the compiler does not say."""
    if isinstance(step, PartPrograms):
        return step.buffers()
    sizes = step.memory_analysis()
    if sizes is None:
        return None
    return Buffers(
        sizes.argument_size_in_bytes,
        sizes.output_size_in_bytes,
        sizes.temp_size_in_bytes,
        sizes.alias_size_in_bytes,
    )
