"""ResNet-18 to ResNet-152 (He et al., 2015, "Deep Residual Learning for Image Recognition").

Bottleneck blocks put the stride on the 3x3 convolution, as torchvision and
kuangliu/pytorch-cifar do. `stem="cifar"` is the latter's: one 3x3 convolution of stride 1 and
no pooling, for 32-pixel images; `stem="imagenet"` is the paper's: 7x7 of stride 2, then a 3x3
max pool of stride 2.
"""

from dataclasses import dataclass
from typing import Literal

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from jaxresnet.errors import UserError
from jaxresnet.models.conv import Conv, Convolution
from jaxresnet.models.layers import (
    BatchNorm,
    Linear,
    dropout,
    global_average_pool,
    max_pool,
    relu,
    relu_of_sum,
)

Stem = Literal["cifar", "imagenet"]
Norm = Literal["batch", "none"]


@dataclass(frozen=True)
class LayerOptions:
    """What all layers of one network share."""

    norm: Norm = "batch"
    conv_bias: bool = False
    dtype: DTypeLike = jnp.float32
    convolution: Convolution = "fast"


class ConvNorm(nnx.Module):
    """A convolution, then batch normalisation unless the network has none."""

    def __init__(
        self,
        in_features: int,
        out_features: int,
        kernel_size: int,
        *,
        stride: int = 1,
        options: LayerOptions,
        rngs: nnx.Rngs,
    ):
        self.conv = Conv(
            in_features,
            out_features,
            kernel_size,
            stride=stride,
            use_bias=options.conv_bias,
            dtype=options.dtype,
            convolution=options.convolution,
            rngs=rngs,
        )
        use_norm = options.norm == "batch"
        self.norm = BatchNorm(out_features, dtype=options.dtype) if use_norm else None

    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        x = self.conv(x)
        return x if self.norm is None else self.norm(x, train=train)


class BasicBlock(nnx.Module):
    """Two 3x3 convolutions beside a shortcut (figure 5, left)."""

    expansion = 1

    def __init__(
        self, in_features: int, width: int, *, stride: int, options: LayerOptions, rngs: nnx.Rngs
    ):
        self.conv1 = ConvNorm(in_features, width, 3, stride=stride, options=options, rngs=rngs)
        self.conv2 = ConvNorm(width, width, 3, options=options, rngs=rngs)
        self.shortcut = _shortcut(in_features, width, stride, options, rngs)

    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        y = relu(self.conv1(x, train=train))
        y = self.conv2(y, train=train)
        return relu_of_sum(y, x if self.shortcut is None else self.shortcut(x, train=train))


class Bottleneck(nnx.Module):
    """1x1, 3x3 and 1x1 convolutions, the last four times as wide (figure 5, right)."""

    expansion = 4

    def __init__(
        self, in_features: int, width: int, *, stride: int, options: LayerOptions, rngs: nnx.Rngs
    ):
        out_features = width * self.expansion
        self.conv1 = ConvNorm(in_features, width, 1, options=options, rngs=rngs)
        self.conv2 = ConvNorm(width, width, 3, stride=stride, options=options, rngs=rngs)
        self.conv3 = ConvNorm(width, out_features, 1, options=options, rngs=rngs)
        self.shortcut = _shortcut(in_features, out_features, stride, options, rngs)

    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        y = relu(self.conv1(x, train=train))
        y = relu(self.conv2(y, train=train))
        y = self.conv3(y, train=train)
        return relu_of_sum(y, x if self.shortcut is None else self.shortcut(x, train=train))


def _shortcut(
    in_features: int, out_features: int, stride: int, options: LayerOptions, rngs: nnx.Rngs
) -> ConvNorm | None:
    """The 1x1 projection where shapes differ (option B of the paper), else the identity."""
    if stride == 1 and in_features == out_features:
        return None
    return ConvNorm(in_features, out_features, 1, stride=stride, options=options, rngs=rngs)


class ResNet(nnx.Module):
    """Stem, four stages of blocks, global average pooling and a linear classifier."""

    def __init__(
        self,
        block: type[BasicBlock] | type[Bottleneck],
        blocks_per_stage: tuple[int, ...],
        *,
        num_classes: int = 10,
        stem: Stem = "cifar",
        norm: Norm = "batch",
        conv_bias: bool = False,
        dropout_rate: float = 0.0,
        width: int = 64,
        dtype: DTypeLike = jnp.float32,
        convolution: Convolution = "fast",
        rngs: nnx.Rngs,
    ):
        options = LayerOptions(norm, conv_bias, dtype, convolution)
        self.dropout_rate = dropout_rate
        self.max_pool = stem == "imagenet"
        kernel_size, stride = (7, 2) if stem == "imagenet" else (3, 1)
        self.stem = ConvNorm(3, width, kernel_size, stride=stride, options=options, rngs=rngs)
        features, stages = width, []
        for stage, num_blocks in enumerate(blocks_per_stage):
            stage_width, blocks = width * 2**stage, []
            for index in range(num_blocks):
                stride = 2 if stage > 0 and index == 0 else 1
                blocks.append(
                    block(features, stage_width, stride=stride, options=options, rngs=rngs)
                )
                features = stage_width * block.expansion
            stages.append(nnx.List(blocks))
        self.stages = nnx.List(stages)
        self.classifier = Linear(features, num_classes, dtype=dtype, rngs=rngs)

    def __call__(
        self, images: jax.Array, *, train: bool, dropout_key: jax.Array | None = None
    ) -> jax.Array:
        """Normalised images (batch, height, width, 3) -> logits (batch, classes) in dtype.

        `dropout_key` is needed when training with a dropout rate above zero.
        """
        x = relu(self.stem(images, train=train))
        if self.max_pool:
            x = max_pool(x)
        for blocks in self.stages:
            for block in blocks:
                x = block(x, train=train)
        x = global_average_pool(x)
        if train and self.dropout_rate > 0:
            if dropout_key is None:
                raise ValueError("training with dropout needs a dropout_key")
            x = dropout(x, self.dropout_rate, dropout_key)
        return self.classifier(x)


_ARCHITECTURES: dict[str, tuple[type[BasicBlock] | type[Bottleneck], tuple[int, ...]]] = {
    "resnet18": (BasicBlock, (2, 2, 2, 2)),
    "resnet34": (BasicBlock, (3, 4, 6, 3)),
    "resnet50": (Bottleneck, (3, 4, 6, 3)),
    "resnet101": (Bottleneck, (3, 4, 23, 3)),
    "resnet152": (Bottleneck, (3, 8, 36, 3)),
}
MODELS = tuple(_ARCHITECTURES)


def find_architecture(bottleneck: bool, blocks_per_stage: tuple[int, ...]) -> str | None:
    """The name among MODELS of the network with such blocks, None if there is none."""
    wanted = (Bottleneck if bottleneck else BasicBlock, blocks_per_stage)
    return next((name for name, found in _ARCHITECTURES.items() if found == wanted), None)


def create_model(name: str, **options) -> ResNet:
    """Builds one of MODELS; `options` are ResNet's own (num_classes, stem, norm, rngs, ...).

    Raises:
      UserError: `name` is not one of MODELS.
    """
    if name not in _ARCHITECTURES:
        raise UserError(f"unknown model {name!r}: choose one of {', '.join(MODELS)}")
    block, blocks_per_stage = _ARCHITECTURES[name]
    return ResNet(block, blocks_per_stage, **options)
