"""The layer table against what torchsummary printed for the labs, and against PyTorch's own."""

import math
from collections import Counter
from typing import Any

import jax
import jax.numpy as jnp
import pytest
from flax import nnx

from jaxresnet.models.resnet import MODELS, create_model
from jaxresnet.models.summary import (
    abstract_model,
    activations_mib,
    count_parameters,
    kept_for_backward,
    list_layers,
    parameters_mib,
)
from jaxresnet.train.state import split_model

# torchvision's documentation of its networks: billions of multiply-adds at 224 pixels.
TORCHVISION_GIGA_OPERATIONS = {
    "resnet18": 1.814, "resnet34": 3.664, "resnet50": 4.089, "resnet101": 7.801,
    "resnet152": 11.514,
}  # fmt: skip
NETWORKS: list[tuple[str, dict[str, Any], int]] = [
    ("resnet18", {}, 32),
    ("resnet18", {"stem": "imagenet", "norm": "none"}, 64),
    ("resnet50", {"stem": "imagenet"}, 64),
]

# From lab-b's and lab-c's print-outs (seeds/002 and 003): rows that tell the order.
PRINTED = {
    1: ("Conv2d-1", "[-1, 64, 32, 32]", 1_728),
    2: ("BatchNorm2d-2", "[-1, 64, 32, 32]", 128),
    7: ("BasicBlock-7", "[-1, 64, 32, 32]", 0),
    13: ("Conv2d-13", "[-1, 128, 16, 16]", 73_728),
    17: ("Conv2d-17", "[-1, 128, 16, 16]", 8_192),
    29: ("Conv2d-29", "[-1, 256, 8, 8]", 32_768),
    41: ("Conv2d-41", "[-1, 512, 4, 4]", 131_072),
    48: ("BasicBlock-48", "[-1, 512, 4, 4]", 0),
    49: ("Linear-49", "[-1, 10]", 5_130),
    50: ("ResNet-50", "[-1, 10]", 0),
}


def test_resnet18_prints_as_in_the_labs():
    model = create_model("resnet18", rngs=nnx.Rngs(0))
    layers = list_layers(model, 32)
    assert len(layers) == 50
    rows = {
        number: (layer.name, layer.torch_shape, layer.parameters)
        for number, layer in enumerate(layers, 1)
    }
    assert {number: rows[number] for number in PRINTED} == PRINTED
    assert sum(layer.parameters for layer in layers) == 11_173_962
    assert round(activations_mib(layers), 2) == 11.25
    assert round(parameters_mib(model), 2) == 42.63


def test_listing_layers_leaves_the_modules_as_they_were():
    model = create_model("resnet18", norm="none", width=4, rngs=nnx.Rngs(0))
    assert len(list_layers(model, 32)) == len(list_layers(model, 32)) == 30


def test_a_network_of_shapes_has_the_layers_of_one_that_is_drawn():
    options: dict[str, Any] = {"width": 4, "stem": "imagenet", "conv_bias": True}
    drawn = create_model("resnet50", rngs=nnx.Rngs(3), **options)
    shapes = abstract_model("resnet50", **options)
    assert list_layers(shapes, 64) == list_layers(drawn, 64)
    assert count_parameters(shapes) == count_parameters(drawn)
    assert {type(leaf) for leaf in jax.tree.leaves(nnx.state(shapes))} == {jax.ShapeDtypeStruct}


@pytest.mark.parametrize("name", MODELS)
def test_multiply_adds_are_those_that_torchvision_states(name):
    layers = list_layers(abstract_model(name, stem="imagenet", num_classes=1000), 224)
    billions = sum(layer.multiply_adds for layer in layers) / 1e9
    assert round(billions, 3) == TORCHVISION_GIGA_OPERATIONS[name]


def test_weights_have_the_shapes_and_the_order_of_pytorchs():
    pytest.importorskip("torch", reason="PyTorch is not installed (extra: interop)")
    from experiments.pytorch.resnet import create_torch_model

    options: dict[str, Any] = {"width": 4, "stem": "imagenet", "conv_bias": True}
    layers = list_layers(abstract_model("resnet50", **options), 64)
    shapes = [shape for layer in layers for shape in layer.weights.values()]
    module = create_torch_model("resnet50", **options)
    assert shapes == [tuple(parameter.shape) for parameter in module.parameters()]


def kept(name: str, options: dict[str, Any], size: int) -> Counter[tuple[int, ...]]:
    layers = list_layers(abstract_model(name, width=4, **options), size)
    return Counter(shape for shapes in kept_for_backward(layers).values() for shape in shapes)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize(("name", "options", "size"), NETWORKS)
def test_what_the_backward_pass_keeps_is_what_jax_keeps(name, options, size, dtype):
    batch = 11  # the size of no axis of a parameter
    model = abstract_model(name, width=4, dtype=dtype, **options)
    network, params, batch_stats = split_model(model)

    def pull_back(params: Any, batch_stats: Any, images: jax.Array) -> Any:
        return jax.vjp(lambda p: network.apply(p, batch_stats, images, train=True)[0], params)[1]

    images = jax.ShapeDtypeStruct((batch, size, size, 3), jnp.float32)
    leaves = jax.tree.leaves(jax.eval_shape(pull_back, params, batch_stats, images))
    activations = [leaf for leaf in leaves if leaf.shape[:1] == (batch,)]
    assert Counter(leaf.shape[1:] for leaf in activations) == kept(name, options, size)
    assert {leaf.dtype for leaf in activations} == {jnp.dtype(dtype)}


@pytest.mark.parametrize(("name", "options", "size"), NETWORKS)
def test_what_the_backward_pass_keeps_is_what_pytorch_keeps(name, options, size):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed (extra: interop)")
    from experiments.pytorch.resnet import create_torch_model

    batch, saved = 11, {}

    def save(tensor: Any) -> Any:
        # The max pool also keeps where its maxima were, as integers.
        if tensor.shape[:1] == (batch,) and tensor.is_floating_point():
            saved[tensor.data_ptr()] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(save, lambda tensor: tensor):
        logits = create_torch_model(name, width=4, **options)(torch.rand(batch, 3, size, size))
    values = sum(math.prod(shape) * n for shape, n in kept(name, options, size).items())
    assert sum(tensor.numel() for tensor in saved.values()) == batch * values
    assert logits.requires_grad
