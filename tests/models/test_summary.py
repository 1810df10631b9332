"""The layer table against what torchsummary printed for the labs."""

from flax import nnx

from jaxresnet.models.resnet import create_model
from jaxresnet.models.summary import activations_mib, list_layers, parameters_mib

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
