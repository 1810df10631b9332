"""ResNets in PyTorch as torchvision and kuangliu/pytorch-cifar define them, with their names.

Written from torch.nn's own layers, so that what is compared with is PyTorch and not a
translation. What those two lack (no normalisation, convolution bias, width) and all numbers are
jaxresnet.models.resnet's; only `create_torch_model` imports it, so that the benchmarks can measure
PyTorch in a process without JAX.
"""

import math
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

# What each convention calls a block's projection and the classifier.
_NAMES = {"torchvision": ("downsample", "fc"), "kuangliu": ("shortcut", "linear")}


class _Block(nn.Sequential):
    """The layers of the main path, the shortcut, and the rectifier of their sum."""

    def __init__(
        self, convolutions: list[tuple[int, int, int, int]], norm: bool, bias: bool, shortcut: str
    ):
        """convolutions: input features, output features, kernel size and stride of each."""
        super().__init__()
        normalise = nn.BatchNorm2d if norm else nn.Identity
        for number, (inputs, outputs, size, stride) in enumerate(convolutions, 1):
            if number > 1:
                self.add_module(f"relu{number - 1}", nn.ReLU())
            conv = nn.Conv2d(inputs, outputs, size, stride, padding=size // 2, bias=bias)
            self.add_module(f"conv{number}", conv)
            self.add_module(f"bn{number}", normalise(outputs))
        inputs, outputs = convolutions[0][0], convolutions[-1][1]
        stride = math.prod(stride for *_, stride in convolutions)
        projection = nn.Sequential()
        if stride != 1 or inputs != outputs:
            projection.append(nn.Conv2d(inputs, outputs, 1, stride, bias=bias))
            projection.append(normalise(outputs))
        self.add_module(shortcut, projection)
        self.add_module("relu", nn.ReLU())

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        *layers, shortcut, relu = self
        x = input
        for layer in layers:
            x = layer(x)
        return relu(x + shortcut(input))


class TorchResNet(nn.Sequential):
    """Takes normalised images (batch, 3, height, width); returns logits (batch, classes)."""

    def __init__(
        self,
        bottleneck: bool,
        blocks: Sequence[int],
        stem: tuple[int, int, int, bool],
        *,
        num_classes: int = 10,
        norm: bool = True,
        conv_bias: bool = False,
        width: int = 64,
        names: str = "torchvision",
    ):
        """
        Args:
          blocks: how many in each stage.
          stem: the first convolution's kernel size, stride, padding; whether a max pool follows.
        """
        kernel_size, stride, padding, pool = stem
        shortcut, classifier = _NAMES[names]
        layers: OrderedDict[str, nn.Module] = OrderedDict(
            conv1=nn.Conv2d(3, width, kernel_size, stride, padding, bias=conv_bias),
            bn1=nn.BatchNorm2d(width) if norm else nn.Identity(),
            relu=nn.ReLU(),
            maxpool=nn.MaxPool2d(3, 2, padding=1) if pool else nn.Identity(),
        )
        features = width
        for stage, num_blocks in enumerate(blocks):
            layers[f"layer{stage + 1}"] = layer = nn.Sequential()
            inner = width * 2**stage
            for index in range(num_blocks):
                stride = 2 if stage > 0 and index == 0 else 1
                convolutions = [(features, inner, 3, stride), (inner, inner, 3, 1)]
                if bottleneck:
                    middle = inner, inner, 3, stride
                    convolutions = [(features, inner, 1, 1), middle, (inner, 4 * inner, 1, 1)]
                layer.append(_Block(convolutions, norm, conv_bias, shortcut))
                features = convolutions[-1][1]
        layers |= {"avgpool": nn.AdaptiveAvgPool2d(1), "flatten": nn.Flatten()}
        super().__init__(layers | {classifier: nn.Linear(features, num_classes)})
        # The layout in which PyTorch is fastest on a CPU; its type stubs do not know the call.
        self.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]

    def last_norms(self) -> list[nn.BatchNorm2d]:
        """The last batch norm of each block's main path; none where there is no normalisation."""
        norms = [module[-3] for module in self.modules() if isinstance(module, _Block)]
        return [norm for norm in norms if isinstance(norm, nn.BatchNorm2d)]

    def relu_inputs(self, images: torch.Tensor) -> list[torch.Tensor]:
        """What each rectifier gets for a batch of normalised images, in order."""
        inputs: list[torch.Tensor] = []
        hooks = [
            module.register_forward_hook(lambda _module, args, _output: inputs.append(args[0]))
            for module in self.modules()
            if isinstance(module, nn.ReLU)
        ]
        with torch.no_grad():
            self(images)
        for hook in hooks:
            hook.remove()
        return inputs


def create_torch_model(
    name: str, *, stem: str = "cifar", norm: str = "batch", **options: Any
) -> TorchResNet:
    """The twin of jaxresnet.models.resnet.create_model, for the same arguments."""
    from jaxresnet.models.resnet import MODELS, NORMS, STEMS, Bottleneck

    block, blocks = MODELS[name]
    is_bottleneck, has_norm = block is Bottleneck, NORMS[norm] is not None
    return TorchResNet(is_bottleneck, blocks, STEMS[stem], norm=has_norm, **options)


def numpy_tensors(module: nn.Module) -> dict[str, Any]:
    """A module's state dict as NumPy arrays that share its memory."""
    return {name: tensor.detach().numpy() for name, tensor in module.state_dict().items()}
