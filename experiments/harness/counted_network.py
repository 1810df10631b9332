"""What the talk's networks are made of, counted from the shapes of their layers."""

import math
from collections import Counter
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from experiments.harness.parts import Part, list_parts
from experiments.harness.published import published
from jaxresnet.data.imagenet import CLASSES, IMAGENET
from jaxresnet.models.layers import Conv
from jaxresnet.models.resnet import MODELS, BasicBlock, Bottleneck
from jaxresnet.models.summary import Layer, abstract_model, list_layers

IMAGE_SIZE = IMAGENET.image_size


@dataclass(frozen=True)
class Network:
    """One of MODELS, by its layers: as the talk builds it, or as it usually is."""

    name: str
    layers: list[Layer]

    @property
    def depth(self) -> str:
        return self.name.removeprefix("resnet")

    @property
    def published(self) -> dict[str, Any]:
        return published()["networks"][self.name]

    @cached_property
    def parts(self) -> list[Part]:
        return list_parts(self.layers)

    @property
    def blocks(self) -> list[Layer]:
        return [layer for layer in self.layers if layer.kind in (BasicBlock, Bottleneck)]

    @property
    def blocks_per_stage(self) -> list[int]:
        return list(Counter(block.path[1] for block in self.blocks).values())

    @property
    def output_sizes(self) -> list[int]:
        """Pixels a side after conv1 and each stage."""
        stages = {block.path[1]: block.output_shape[0] for block in self.blocks}
        return [self.layers[0].output_shape[0], *stages.values()]

    @property
    def convolutions(self) -> list[Layer]:
        return [layer for layer in self.layers if layer.kind is Conv]

    @property
    def biases(self) -> int:
        """Values in the convolutions' biases."""
        return sum(math.prod(layer.weights.get("bias", (0,))) for layer in self.convolutions)

    @property
    def parameters_with_bias(self) -> int:
        """Parameters, the convolutions' biases among them if they have any."""
        return sum(layer.parameters for layer in self.layers)

    @property
    def parameters(self) -> int:
        """Of the usual network, whose convolutions have no bias."""
        return self.parameters_with_bias - self.biases

    @property
    def multiply_adds(self) -> int:
        return sum(layer.multiply_adds for layer in self.layers)

    @property
    def multiply_adds_in_paper(self) -> int:
        """Of He et al.'s variants: bottlenecks with the stride on their first 1x1 convolution;
        basic blocks whose shortcuts have no projection (option A)."""
        if MODELS[self.name][0] is BasicBlock:
            return sum(x.multiply_adds for x in self.layers if "shortcut" not in x.path)
        outputs = {layer.path: layer.output_shape for layer in self.layers}
        return sum(
            # As many pixels as the block's 3x3 convolution gives.
            replace(layer, output_shape=outputs[*layer.path[:3], "conv2", "conv"]).multiply_adds
            if layer.path[3:] == ("conv1", "conv")
            else layer.multiply_adds
            for layer in self.layers
        )


def count_network(name: str, *, conv_bias: bool = True) -> Network:
    """Walks over one of MODELS, on shapes alone. conv_bias: whether convolutions have biases."""
    options: dict[str, Any] = {"stem": "imagenet", "num_classes": CLASSES, "conv_bias": conv_bias}
    return Network(name, list_layers(abstract_model(name, **options), IMAGE_SIZE))
