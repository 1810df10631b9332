"""What a model is made of: its layers with output shapes and parameters, as torchsummary prints."""

import math
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from flax import nnx

from jaxresnet.models.layers import BatchNorm, Conv, Linear
from jaxresnet.models.resnet import BasicBlock, Bottleneck, ResNet

# What PyTorch calls the modules; those that only group others are not printed by torchsummary.
_TORCH_NAMES: dict[type[nnx.Module], str] = {
    Conv: "Conv2d",
    BatchNorm: "BatchNorm2d",
    Linear: "Linear",
    BasicBlock: "BasicBlock",
    Bottleneck: "Bottleneck",
    ResNet: "ResNet",
}
_FLOAT32_MIB = 4 / 2**20


@dataclass(frozen=True)
class Layer:
    """One call of a module.

    Attributes:
      name: as torchsummary prints it, such as Conv2d-1.
      output_shape: without the batch axis, channels last.
      parameters: its own trainable values, without those of modules within it.
    """

    name: str
    module: nnx.Module
    output_shape: tuple[int, ...]
    parameters: int

    @property
    def torch_shape(self) -> str:
        """The output shape as torchsummary prints it: [-1, channels, height, width]."""
        *spatial, features = self.output_shape
        return str([-1, features, *spatial])


def count_parameters(model: nnx.Module) -> int:
    """Trainable values in the whole model."""
    return sum(leaf.size for leaf in jax.tree.leaves(nnx.state(model, nnx.Param)))


def list_layers(model: ResNet, image_size: int) -> list[Layer]:
    """The modules of a ResNet in the order in which they finish, for square RGB images.

    Runs the model on shapes alone.
    """
    layers: list[Layer] = []

    def observed(original: Callable[..., jax.Array]) -> Callable[..., jax.Array]:
        def call(self, *args, **kwargs) -> jax.Array:
            output = original(self, *args, **kwargs)
            name = f"{_TORCH_NAMES[type(self)]}-{len(layers) + 1}"
            own = sum(v[...].size for v in vars(self).values() if isinstance(v, nnx.Param))
            layers.append(Layer(name, self, output.shape[1:], own))
            return output

        return call

    images = jax.ShapeDtypeStruct((1, image_size, image_size, 3), jnp.float32)
    # As PyTorch's forward hooks; nnx.capture keeps outputs, but not the order of the calls.
    with ExitStack() as stack:
        for kind in _TORCH_NAMES:
            stack.callback(setattr, kind, "__call__", kind.__call__)
            kind.__call__ = observed(kind.__call__)
        jax.eval_shape(lambda x: model(x, train=False), images)
    return layers


def parameters_mib(model: nnx.Module) -> float:
    """The parameters in float32, in MiB (torchsummary's "Params size (MB)")."""
    return count_parameters(model) * _FLOAT32_MIB


def activations_mib(layers: list[Layer]) -> float:
    """All outputs of one image and as many gradients, in MiB.

    torchsummary's "Forward/backward pass size (MB)", which counts a block's output twice.
    """
    values = sum(math.prod(layer.output_shape) for layer in layers)
    return 2 * values * _FLOAT32_MIB
