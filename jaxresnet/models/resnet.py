"""ResNet-18 to ResNet-152 (He et al., 2015, "Deep Residual Learning for Image Recognition").

Bottleneck blocks put the stride on the 3x3 convolution, as torchvision and
kuangliu/pytorch-cifar do. To add a network, a stem or an option, see MODELS, STEMS and
ModelOptions.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Annotated, Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from jaxresnet.errors import UserError
from jaxresnet.kernels.activation import relu, relu_of_sum
from jaxresnet.kernels.conv import CONVOLUTIONS
from jaxresnet.kernels.pooling import max_pool
from jaxresnet.kernels.remat import keep, recompute
from jaxresnet.models.layers import BatchNorm, Conv, Linear, dropout, global_average_pool
from jaxresnet.options import look_up, one_of, option


class Stem(NamedTuple):
    """The layers before the first stage: a convolution, and whether a max pool (3x3, stride 2)."""

    kernel_size: int
    stride: int
    padding: int
    pool: bool


STEMS: dict[str, Stem] = {
    "cifar": Stem(3, 1, 1, pool=False),  # kuangliu/pytorch-cifar's, for 32-pixel images
    "imagenet": Stem(7, 2, 3, pool=True),  # the paper's
}

Dtype = Literal["float32", "bfloat16"]

# What follows each convolution.
NORMS: dict[str, type[BatchNorm] | None] = {"batch": BatchNorm, "none": None}


def describe_norm(norm: str) -> str:
    """One of NORMS for people."""
    return f"{norm} normalisation" if NORMS[norm] else "without normalisation"


class ConvNorm(nnx.Module):
    """A convolution, then normalisation unless the network has none."""

    def __init__(self, conv: Conv, norm: BatchNorm | None):
        self.conv, self.norm = conv, norm

    def __call__(self, x: jax.Array, *, train: bool, kept: bool = False) -> jax.Array:
        """kept: with remat, keep what the convolution gives instead of computing it again."""
        x = self.conv(x)
        x = keep(x) if kept else x
        return x if self.norm is None else self.norm(x, train=train)


# From in-features, out-features, kernel size, whether it is the last before the sum with the
# shortcut, and further arguments of Conv.
MakeLayer = Callable[..., ConvNorm]


class BasicBlock(nnx.Module):
    """Two 3x3 convolutions beside a shortcut (figure 5, left)."""

    expansion = 1

    def __init__(self, in_features: int, width: int, stride: int, layer: MakeLayer):
        self.conv1 = layer(in_features, width, 3, stride=stride)
        self.conv2 = layer(width, width, 3, last=True)
        self.shortcut = _shortcut(in_features, width, stride, layer)

    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        y = relu(self.conv1(x, train=train, kept=True))
        y = self.conv2(y, train=train)
        return relu_of_sum(y, x if self.shortcut is None else self.shortcut(x, train=train))


class Bottleneck(nnx.Module):
    """1x1, 3x3 and 1x1 convolutions, the last four times as wide (figure 5, right)."""

    expansion = 4

    def __init__(self, in_features: int, width: int, stride: int, layer: MakeLayer):
        out_features = width * self.expansion
        self.conv1 = layer(in_features, width, 1)
        self.conv2 = layer(width, width, 3, stride=stride)
        self.conv3 = layer(width, out_features, 1, last=True)
        self.shortcut = _shortcut(in_features, out_features, stride, layer)

    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        y = relu(self.conv1(x, train=train, kept=True))
        y = relu(self.conv2(y, train=train, kept=True))
        y = self.conv3(y, train=train)
        return relu_of_sum(y, x if self.shortcut is None else self.shortcut(x, train=train))


def _shortcut(
    in_features: int, out_features: int, stride: int, layer: MakeLayer
) -> ConvNorm | None:
    """The 1x1 projection where shapes differ (option B of the paper), else the identity."""
    if stride == 1 and in_features == out_features:
        return None
    return layer(in_features, out_features, 1, stride=stride)


Block = type[BasicBlock] | type[Bottleneck]
# Whose activations are computed again at a time: of two, half of the blocks' outputs are kept.
_REMAT_BLOCKS = 2


class ResNet(nnx.Module):
    """Stem, stages of blocks, global average pooling and a linear classifier."""

    def __init__(
        self,
        block: Block,
        blocks_per_stage: tuple[int, ...],
        *,
        num_classes: int = 10,
        stem: str = "cifar",
        norm: str = "batch",
        conv_bias: bool = False,
        zero_init_residual: bool = False,
        dropout: float = 0.0,
        remat: bool = False,
        width: int = 64,
        dtype: DTypeLike = jnp.float32,
        convolution: str = "fast",
        rngs: nnx.Rngs,
    ):
        make_norm = look_up(NORMS, norm, "norm")
        make_conv = partial(
            Conv, use_bias=conv_bias, dtype=dtype, convolution=convolution, rngs=rngs
        )

        def layer(
            in_features: int, features: int, size: int, *, last: bool = False, **more: Any
        ) -> ConvNorm:
            conv = make_conv(in_features, features, size, **more)
            start = {"initial_scale": 0.0} if last and zero_init_residual else {}
            norm = make_norm and make_norm(features, **start, dtype=dtype)
            return ConvNorm(conv, norm)

        self.dropout, self.remat = dropout, remat
        size, stride, padding, self.pool = look_up(STEMS, stem, "stem")
        self.stem = layer(3, width, size, stride=stride, padding=padding)
        features, stages = width, []
        for stage, num_blocks in enumerate(blocks_per_stage):
            stage_width, blocks = width * 2**stage, []
            for index in range(num_blocks):
                stride = 2 if stage > 0 and index == 0 else 1
                blocks.append(block(features, stage_width, stride, layer))
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
        if self.pool:
            x = max_pool(x)
        for blocks in self.stages:
            if train and self.remat:
                for start in range(0, len(blocks), _REMAT_BLOCKS):
                    x = _run_again(blocks[start : start + _REMAT_BLOCKS], x)
            else:
                x = _run(blocks, x, train=train)
        x = global_average_pool(x)
        if train and self.dropout > 0:
            if dropout_key is None:
                raise ValueError("training with dropout needs a dropout_key")
            x = dropout(x, self.dropout, dropout_key)
        return self.classifier(x)


def _run(blocks: Sequence[BasicBlock | Bottleneck], x: jax.Array, *, train: bool) -> jax.Array:
    for block in blocks:
        x = block(x, train=train)
    return x


def _run_again(blocks: Sequence[BasicBlock | Bottleneck], x: jax.Array) -> jax.Array:
    """Training's pass through the blocks, with activations that the backward pass computes again.

    Kept are the input, the statistics, and what convolutions give within a block; normalisation,
    rectifiers and the last and widest convolution are few multiplications for most of the memory.
    """
    modules = nnx.List(blocks)
    graph, params, batch_stats = nnx.split(modules, nnx.Param, nnx.BatchStat)

    def run(params: Any, batch_stats: Any, x: jax.Array) -> tuple[jax.Array, Any]:
        blocks = nnx.merge(graph, params, batch_stats, copy=True)
        outputs = _run(blocks, x, train=True)
        return outputs, nnx.to_pure_dict(nnx.state(blocks, nnx.BatchStat))

    inputs = nnx.to_pure_dict(params), nnx.to_pure_dict(batch_stats), x
    outputs, batch_stats = recompute(run)(*inputs)
    nnx.update(modules, batch_stats)
    return outputs


# The kind of block, and the number of blocks in each stage (table 1 of the paper).
MODELS: dict[str, tuple[Block, tuple[int, ...]]] = {
    "resnet18": (BasicBlock, (2, 2, 2, 2)),
    "resnet34": (BasicBlock, (3, 4, 6, 3)),
    "resnet50": (Bottleneck, (3, 4, 6, 3)),
    "resnet101": (Bottleneck, (3, 4, 23, 3)),
    "resnet152": (Bottleneck, (3, 8, 36, 3)),
}


def create_model(name: str, **options: Any) -> ResNet:
    """Builds one of MODELS; `options` are ResNet's own (num_classes, stem, norm, rngs, ...).

    Raises:
      UserError: `name` is not one of MODELS, or an option not in its table.
    """
    return ResNet(*look_up(MODELS, name, "model"), **options)


@dataclass(frozen=True)
class ModelOptions:
    """The network: what it is created with, by the names of ResNet's arguments."""

    model: Annotated[str, one_of(MODELS, "model")] = option(
        "resnet18", affects="result", published=True, says="{}", always=True
    )
    """Its depth."""
    stem: Annotated[str, one_of(STEMS, "stem")] = option(
        "cifar", affects="result", published=True, says="{} stem"
    )
    """The layers before the first stage."""
    norm: Annotated[str, one_of(NORMS, "norm")] = option(
        "batch", affects="result", published=True, says=describe_norm
    )
    """The normalisation after each convolution."""
    conv_bias: bool = option(
        False,
        affects="result",
        published=True,
        says=lambda biases: f"convolutions {'with' if biases else 'without'} biases",
    )
    """Whether every convolution has a bias; batch normalisation takes it off again."""
    zero_init_residual: bool = option(
        False, affects="result", published=True, says="the last scale of each block starting at 0"
    )
    """Start the scale of the last normalisation in each block at 0, so that blocks start as their
    shortcuts."""
    dropout: float = option(
        0.0, affects="result", published=True, says="dropout {:g}", at_least=0, below=1
    )
    """In training, zero the classifier's inputs with this probability and divide the others by the
    rest of it, as torch.nn.Dropout does."""
    remat: bool = option(False, affects="result", published=True, says="activations computed again")
    """Keep fewer activations for the backward pass, and compute them again there: less memory for
    some more time, and the same result but for rounding."""
    width: int = option(64, affects="result", published=True, says="width {}", at_least=1)
    """Channels of the first stage; 64 is the real thing, less is a thinner network."""
    dtype: Dtype = option("float32", affects="result", published=True, says="{}", always=True)
    """Of convolutions and activations; parameters and statistics stay float32."""
    convolution: Annotated[str, one_of(CONVOLUTIONS, "convolution")] = option(
        "fast", affects="result", published=False, says="{} convolutions"
    )
    """Whose gradients. fast: written for the CPU, the same but for rounding. plain: JAX's own, as
    on every other device."""

    def check(self) -> None:
        """Raises UserError for a start of norms where there are none."""
        if self.zero_init_residual and not NORMS[self.norm]:
            raise UserError(
                f"--zero-init-residual is for normalisation layers, but --norm is {self.norm}"
            )

    def create(self, num_classes: int, seed: int) -> ResNet:
        """The network, its weights drawn from the seed."""
        options = asdict(self)
        return create_model(
            options.pop("model"), num_classes=num_classes, rngs=nnx.Rngs(seed), **options
        )

    def create_abstract(self, num_classes: int) -> ResNet:
        """The network with shapes in place of weights: nothing is drawn or computed."""
        return nnx.eval_shape(lambda: self.create(num_classes, seed=0))
