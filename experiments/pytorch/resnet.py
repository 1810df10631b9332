"""ResNets in PyTorch as torchvision and kuangliu/pytorch-cifar define them, with their names.

Written from torch.nn's own layers, so that what is compared with is PyTorch and not a
translation; options that those two lack (no normalisation, convolution bias, width) are those of
jaxresnet.models.resnet.
"""

from typing import Any

import torch
from torch import nn

_BLOCKS: dict[str, tuple[bool, tuple[int, ...]]] = {  # bottleneck or not, blocks per stage
    "resnet18": (False, (2, 2, 2, 2)),
    "resnet34": (False, (3, 4, 6, 3)),
    "resnet50": (True, (3, 4, 6, 3)),
    "resnet101": (True, (3, 4, 23, 3)),
    "resnet152": (True, (3, 8, 36, 3)),
}


class _Block(nn.Module):
    """A basic block (two convolutions) or a bottleneck (three), for either convention."""

    def __init__(
        self,
        in_features: int,
        width: int,
        stride: int,
        *,
        bottleneck: bool,
        norm: bool,
        bias: bool,
        shortcut_name: str,
    ):
        super().__init__()
        out_features = 4 * width if bottleneck else width
        basic = [(in_features, width, 3, stride), (width, width, 3, 1)]
        shapes = [
            (in_features, width, 1, 1),
            (width, width, 3, stride),
            (width, out_features, 1, 1),
        ]
        self.depth = 3 if bottleneck else 2
        self.relu = nn.ReLU()
        for number, (inputs, outputs, size, step) in enumerate(shapes if bottleneck else basic, 1):
            conv = nn.Conv2d(inputs, outputs, size, step, padding=size // 2, bias=bias)
            setattr(self, f"conv{number}", conv)
            if norm:
                setattr(self, f"bn{number}", nn.BatchNorm2d(outputs))
        shortcut = nn.Sequential()
        if stride != 1 or in_features != out_features:
            shortcut.append(nn.Conv2d(in_features, out_features, 1, stride, bias=bias))
            if norm:
                shortcut.append(nn.BatchNorm2d(out_features))
        self.shortcut_name = shortcut_name
        setattr(self, shortcut_name, shortcut)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = x
        for number in range(1, self.depth + 1):
            y = getattr(self, f"conv{number}")(y)
            if hasattr(self, f"bn{number}"):
                y = getattr(self, f"bn{number}")(y)
            if number < self.depth:
                y = self.relu(y)
        return self.relu(y + getattr(self, self.shortcut_name)(x))


class TorchResNet(nn.Module):
    """Takes normalised images (batch, 3, height, width); returns logits (batch, classes)."""

    def __init__(
        self,
        name: str,
        *,
        num_classes: int = 10,
        stem: str = "cifar",
        norm: str = "batch",
        conv_bias: bool = False,
        width: int = 64,
        names: str = "torchvision",
    ):
        super().__init__()
        bottleneck, blocks_per_stage = _BLOCKS[name]
        imagenet, has_norm = stem == "imagenet", norm == "batch"
        shortcut_name, self.classifier_name = {
            "torchvision": ("downsample", "fc"),
            "kuangliu": ("shortcut", "linear"),
        }[names]
        size, stride = (7, 2) if imagenet else (3, 1)
        self.conv1 = nn.Conv2d(3, width, size, stride, padding=size // 2, bias=conv_bias)
        self.bn1 = nn.BatchNorm2d(width) if has_norm else None
        self.relu = nn.ReLU()
        self.maxpool = nn.MaxPool2d(3, 2, padding=1) if imagenet else nn.Identity()
        features = width
        for stage, num_blocks in enumerate(blocks_per_stage):
            blocks = nn.Sequential()
            for index in range(num_blocks):
                stage_width = width * 2**stage
                block = _Block(
                    features,
                    stage_width,
                    2 if stage > 0 and index == 0 else 1,
                    bottleneck=bottleneck,
                    norm=has_norm,
                    bias=conv_bias,
                    shortcut_name=shortcut_name,
                )
                blocks.append(block)
                features = stage_width * (4 if bottleneck else 1)
            setattr(self, f"layer{stage + 1}", blocks)
        setattr(self, self.classifier_name, nn.Linear(features, num_classes))
        # The layout in which PyTorch is fastest on a CPU; its type stubs do not know the call.
        self.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.conv1(x)
        if self.bn1 is not None:
            x = self.bn1(x)
        x = self.maxpool(self.relu(x))
        for stage in range(1, 5):
            x = getattr(self, f"layer{stage}")(x)
        return getattr(self, self.classifier_name)(x.mean((2, 3)))

    def last_norms(self) -> list[nn.BatchNorm2d]:
        """The last batch norm of each block's main path; none where there is no normalisation."""
        blocks = [module for module in self.modules() if isinstance(module, _Block)]
        norms = [getattr(block, f"bn{block.depth}", None) for block in blocks]
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


def numpy_tensors(module: nn.Module) -> dict[str, Any]:
    """A module's state dict as NumPy arrays."""
    return {name: tensor.detach().numpy() for name, tensor in module.state_dict().items()}
