"""ResNets in PyTorch as torchvision and kuangliu/pytorch-cifar define them, with their names.

Written from torch.nn's own layers, so that what is compared with is PyTorch and not a
translation. What those two lack (no normalisation, convolution bias, width) and all numbers are
jaxresnet.models.resnet's; only `create_torch_model` imports it, so that the benchmarks can measure
PyTorch in a process without JAX.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

# (input features, output features, kernel size, stride) of each convolution of a block.
Convolutions = list[tuple[int, int, int, int]]
# What each convention calls a block's projection and the classifier.
_NAMES = {"torchvision": ("downsample", "fc"), "kuangliu": ("shortcut", "linear")}


class _Block(nn.Module):
    """Convolutions beside a shortcut."""

    def __init__(self, convolutions: Convolutions, *, norm: bool, bias: bool, shortcut: str):
        super().__init__()
        normalise = nn.BatchNorm2d if norm else nn.Identity
        self.depth, self.shortcut_name = len(convolutions), shortcut
        self.relu = nn.ReLU()
        for number, (inputs, outputs, size, stride) in enumerate(convolutions, 1):
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

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = x
        for number in range(1, self.depth + 1):
            y = self.get_submodule(f"bn{number}")(self.get_submodule(f"conv{number}")(y))
            if number < self.depth:
                y = self.relu(y)
        return self.relu(y + self.get_submodule(self.shortcut_name)(x))


def _convolutions(bottleneck: bool, inputs: int, width: int, stride: int) -> Convolutions:
    if bottleneck:
        return [(inputs, width, 1, 1), (width, width, 3, stride), (width, 4 * width, 1, 1)]
    return [(inputs, width, 3, stride), (width, width, 3, 1)]


class TorchResNet(nn.Module):
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
        super().__init__()
        kernel_size, stride, padding, pool = stem
        shortcut, self.classifier_name = _NAMES[names]
        self.conv1 = nn.Conv2d(3, width, kernel_size, stride, padding, bias=conv_bias)
        self.bn1 = nn.BatchNorm2d(width) if norm else nn.Identity()
        self.relu = nn.ReLU()
        self.maxpool = nn.MaxPool2d(3, 2, padding=1) if pool else nn.Identity()
        self.stages = [f"layer{number}" for number in range(1, len(blocks) + 1)]
        features = width
        for stage, num_blocks in enumerate(blocks):
            layer = nn.Sequential()
            for index in range(num_blocks):
                stride = 2 if stage > 0 and index == 0 else 1
                convolutions = _convolutions(bottleneck, features, width * 2**stage, stride)
                layer.append(_Block(convolutions, norm=norm, bias=conv_bias, shortcut=shortcut))
                features = convolutions[-1][1]
            self.add_module(self.stages[stage], layer)
        self.add_module(self.classifier_name, nn.Linear(features, num_classes))
        # The layout in which PyTorch is fastest on a CPU; its type stubs do not know the call.
        self.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        for layer in self.stages:
            x = self.get_submodule(layer)(x)
        return self.get_submodule(self.classifier_name)(x.mean((2, 3)))

    def last_norms(self) -> list[nn.BatchNorm2d]:
        """The last batch norm of each block's main path; none where there is no normalisation."""
        blocks = [module for module in self.modules() if isinstance(module, _Block)]
        norms = [block.get_submodule(f"bn{block.depth}") for block in blocks]
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
