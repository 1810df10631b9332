"""How much arithmetic a training step is."""

import math

import jax.numpy as jnp
from flax import nnx

from jaxresnet.models.conv import Conv
from jaxresnet.models.layers import Linear
from jaxresnet.models.resnet import Stem, create_model
from jaxresnet.models.summary import list_layers


def step_gflop(
    model: str, stem: Stem, classes: int, width: int, image_size: int, batch_size: int
) -> float:
    """Nominal: of the convolutions and the linear layer, multiplications and additions alike.

    Each has three products of the same size, its outputs and both gradients; the first
    convolution needs no gradient of the images. Products with the padding count like others.
    """
    network = create_model(
        model, stem=stem, num_classes=classes, width=width, dtype=jnp.float32, rngs=nnx.Rngs(0)
    )
    products = [
        layer.module.kernel.size * math.prod(layer.output_shape[:-1])
        for layer in list_layers(network, image_size)
        if isinstance(layer.module, Conv | Linear)
    ]
    return 2 * batch_size * (3 * sum(products) - products[0]) / 1e9
