"""ResNets in PyTorch as torchvision and kuangliu/pytorch-cifar define them, with their names.

Written with torch.nn's own layers. What those two lack (no normalisation, convolution bias, width)
and all numbers are jaxresnet.models.resnet's; only `create_torch_model` imports it, so that the
benchmarks can measure PyTorch in a process without JAX.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

# What each convention calls a block's projection and the classifier.
_NAMES = {"torchvision": ("downsample", "fc"), "kuangliu": ("shortcut", "linear")}
_NORMS = {"batch": nn.BatchNorm2d, "none": lambda _features: nn.Identity()}


class _Block(nn.Sequential):
    """The layers of the main path, the last rectifier after the sum, and the shortcut."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        *layers, relu, shortcut = self
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
        norm: str = "batch",
        conv_bias: bool = False,
        zero_init_residual: bool = False,
        dropout: float = 0.0,
        width: int = 64,
        names: str = "torchvision",
    ):
        """
        Args:
          blocks: how many in each stage.
          stem: the first convolution's kernel size, stride, padding; whether a max pool follows.
        """
        super().__init__()
        shortcut, classifier = _NAMES[names]

        def conv_norm(*shape: int) -> tuple[nn.Conv2d, nn.Module]:
            conv = nn.Conv2d(*shape, bias=conv_bias)
            return conv, _NORMS[norm](conv.out_channels)

        def add_layers(owner: nn.Module, *shapes: tuple[int, ...]) -> None:
            """shapes: input features, output features, kernel size, stride, padding."""
            for number, shape in enumerate(shapes, 1):
                layers = (*conv_norm(*shape), nn.ReLU())
                for name, layer in zip(("conv", "bn", "relu"), layers, strict=True):
                    owner.add_module(f"{name}{number}", layer)

        *shape, pool = stem
        add_layers(self, (3, width, *shape))
        self.add_module("maxpool", nn.MaxPool2d(3, 2, padding=1) if pool else nn.Identity())
        inputs = width
        for stage, num_blocks in enumerate(blocks):
            layer, inner = nn.Sequential(), width * 2**stage
            outputs = 4 * inner if bottleneck else inner
            for index in range(num_blocks):
                block, stride = _Block(), 2 if stage > 0 and index == 0 else 1
                shapes = [(inputs, inner, 3, stride, 1), (inner, inner, 3, 1, 1)]
                if bottleneck:
                    shapes = [(inputs, inner, 1), (inner, inner, 3, stride, 1), (inner, outputs, 1)]
                add_layers(block, *shapes)
                same = stride == 1 and inputs == outputs
                projection = () if same else conv_norm(inputs, outputs, 1, stride)
                block.add_module(shortcut, nn.Sequential(*projection))
                layer.append(block)
                inputs = outputs
            self.add_module(f"layer{stage + 1}", layer)
        self.add_module("avgpool", nn.AdaptiveAvgPool2d(1))
        self.add_module("flatten", nn.Flatten())
        self.add_module("dropout", nn.Dropout(dropout) if dropout else nn.Identity())
        self.add_module(classifier, nn.Linear(inputs, num_classes))
        for last in self.last_norms() if zero_init_residual else ():
            nn.init.zeros_(last.weight)
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


def create_torch_model(name: str, *, stem: str = "cifar", **options: Any) -> TorchResNet:
    """The twin of jaxresnet.models.resnet.create_model, for the same arguments."""
    from jaxresnet.models.resnet import MODELS, STEMS, Bottleneck

    block, blocks = MODELS[name]
    return TorchResNet(block is Bottleneck, blocks, STEMS[stem], **options)


def numpy_tensors(module: nn.Module) -> dict[str, Any]:
    """A module's state dict as NumPy arrays that share its memory."""
    return {name: tensor.detach().numpy() for name, tensor in module.state_dict().items()}
