"""The training state: a plain pytree, so that one jitted function can take and return it."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from jaxresnet.models.resnet import ResNet

Arrays = Any  # nested dicts of arrays, by attribute name


class TrainState(NamedTuple):
    step: jax.Array  # () int32
    params: Arrays
    batch_stats: Arrays
    opt_state: optax.OptState
    average: tuple[Arrays, Arrays] | None = None  # of params and batch_stats, where it is kept

    @property
    def evaluated(self) -> tuple[Arrays, Arrays]:
        """(params, batch_stats) as they are evaluated: averaged where an average is kept."""
        return self.average or (self.params, self.batch_stats)


class Network(NamedTuple):
    """The static half of a model, and the function that runs it on arrays."""

    graph: nnx.GraphDef[ResNet]

    def apply(
        self,
        params: Arrays,
        batch_stats: Arrays,
        images: jax.Array,
        *,
        train: bool,
        dropout_key: jax.Array | None = None,
    ) -> tuple[jax.Array, Arrays]:
        """Normalised images -> (logits, batch_stats after the call); changes nothing."""
        model = nnx.merge(self.graph, params, batch_stats, copy=True)
        logits = model(images, train=train, dropout_key=dropout_key)
        return logits, nnx.to_pure_dict(nnx.state(model, nnx.BatchStat))


def split_model(model: ResNet) -> tuple[Network, Arrays, Arrays]:
    """A model as (network, params, batch_stats)."""
    graph, params, batch_stats = nnx.split(model, nnx.Param, nnx.BatchStat)
    return Network(graph), nnx.to_pure_dict(params), nnx.to_pure_dict(batch_stats)


def create_state(
    params: Arrays,
    batch_stats: Arrays,
    optimizer: optax.GradientTransformation,
    *,
    averaged: bool = False,
) -> TrainState:
    """The state before the first step. Copies, since a step donates what it is given.

    averaged: whether to keep an average, which starts as these weights.
    """

    @jax.jit
    def create(params: Arrays, batch_stats: Arrays) -> TrainState:
        average = jax.tree.map(jnp.copy, (params, batch_stats)) if averaged else None
        params, batch_stats = jax.tree.map(jnp.copy, (params, batch_stats))
        step = jnp.zeros((), jnp.int32)
        return TrainState(step, params, batch_stats, optimizer.init(params), average)

    return create(*jax.device_put((params, batch_stats)))
