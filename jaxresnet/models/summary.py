"""What a model is made of: its layers with output shapes and parameters, as torchsummary prints."""

import math
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxresnet.models.layers import BatchNorm, Conv, Linear
from jaxresnet.models.resnet import BasicBlock, Bottleneck, ResNet, create_model
from jaxresnet.models.torch_names import to_torch_axes

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

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Layer:
    """One call of a module.

    Attributes:
      name: as torchsummary prints it, such as Conv2d-1.
      kind: the module's class.
      path: to the module from the network, such as ("stages", 0, 1, "conv2", "norm").
      input_shape, output_shape: without the batch axis, channels last.
      shares_input: whether an earlier layer with weights took the same array, as a block's first
        convolution did before its shortcut.
      weights: the shapes of its own trainable values, without those of modules within it, in
        PyTorch's order, also of axes: a convolution's kernel is [out, in, height, width].
    """

    name: str
    kind: type[nnx.Module]
    path: tuple[Any, ...]
    input_shape: Shape
    output_shape: Shape
    shares_input: bool
    weights: dict[str, Shape]

    @property
    def parameters(self) -> int:
        """How many trainable values it has of its own."""
        return sum(map(math.prod, self.weights.values()))

    @property
    def multiply_adds(self) -> int:
        """For one image; of convolutions and the linear layer, products with padding included."""
        if not issubclass(self.kind, Conv | Linear):
            return 0
        return math.prod(self.weights["kernel"]) * math.prod(self.output_shape[:-1])

    @property
    def torch_shape(self) -> str:
        """The output shape as torchsummary prints it: [-1, channels, height, width]."""
        *spatial, features = self.output_shape
        return str([-1, features, *spatial])


def abstract_model(name: str, **options: Any) -> ResNet:
    """create_model's network with shapes in place of values: nothing is drawn or allocated."""
    return nnx.eval_shape(lambda: create_model(name, rngs=nnx.Rngs(0), **options))


def count_parameters(model: nnx.Module) -> int:
    """Trainable values in the whole model."""
    return sum(leaf.size for leaf in jax.tree.leaves(nnx.state(model, nnx.Param)))


def list_layers(model: ResNet, image_size: int) -> list[Layer]:
    """The modules of a ResNet in the order in which they finish, for square RGB images.

    Runs the model on shapes alone, and needs no more of it.
    """
    layers: list[Layer] = []
    paths: dict[int, tuple[Any, ...]] = {}
    inputs: list[jax.Array] = []  # kept, so that no two have the same id

    def observed(original: Callable[..., jax.Array]) -> Callable[..., jax.Array]:
        def call(self, x: jax.Array, *args, **kwargs) -> jax.Array:
            output = original(self, x, *args, **kwargs)
            own = {name: v[...] for name, v in vars(self).items() if isinstance(v, nnx.Param)}
            names = sorted(own, key=lambda name: name == "bias")
            layer = Layer(
                name=f"{_TORCH_NAMES[type(self)]}-{len(layers) + 1}",
                kind=type(self),
                path=paths[id(self)],
                input_shape=x.shape[1:],
                output_shape=output.shape[1:],
                shares_input=any(x is other for other in inputs),
                weights={name: _torch_axes(own[name].shape) for name in names},
            )
            layers.append(layer)
            if layer.weights:
                inputs.append(x)
            return output

        return call

    graph, state = nnx.split(model)

    def run(state: nnx.State, images: jax.Array) -> jax.Array:
        traced = nnx.merge(graph, state)
        paths.update({id(module): path for path, module in nnx.iter_modules(traced)})
        return traced(images, train=False)

    images = jax.ShapeDtypeStruct((1, image_size, image_size, 3), jnp.float32)
    # As PyTorch's forward hooks; nnx.capture keeps outputs, but not the order of the calls.
    with ExitStack() as stack:
        for kind in _TORCH_NAMES:
            stack.callback(setattr, kind, "__call__", kind.__call__)
            kind.__call__ = observed(kind.__call__)
        jax.eval_shape(run, state, images)
    return layers


def _torch_axes(shape: Shape) -> Shape:
    return to_torch_axes(np.broadcast_to(np.float32(0), shape)).shape


def kept_for_backward(layers: list[Layer]) -> dict[str, list[Shape]]:
    """The arrays that a training step keeps of the forward pass of one image, by layer's name.

    A convolution, a batch norm and the linear layer keep their inputs, unless an earlier one did.
    A rectifier keeps its output, which is the input of such a layer, but for two: the stem's where
    a max pool takes it, and the last block's. By the gradients of jaxresnet.kernels, without
    rematerialisation. PyTorch keeps the same, and where each maximum of the max pool was.
    """
    kept = {
        layer.name: [layer.input_shape] if layer.weights and not layer.shares_input else []
        for layer in layers
    }
    stem = [layer for layer in layers if layer.path[:1] == ("stem",)][-1]
    in_stages = [layer for layer in layers if layer.path[:1] == ("stages",)]
    if in_stages[0].input_shape != stem.output_shape:
        kept[stem.name].append(stem.output_shape)
    kept[in_stages[-1].name].append(in_stages[-1].output_shape)
    return kept


def parameters_mib(model: nnx.Module) -> float:
    """The parameters in float32, in MiB (torchsummary's "Params size (MB)")."""
    return count_parameters(model) * _FLOAT32_MIB


def activations_mib(layers: list[Layer]) -> float:
    """All outputs of one image and as many gradients, in MiB.

    torchsummary's "Forward/backward pass size (MB)", which counts a block's output twice.
    """
    values = sum(math.prod(layer.output_shape) for layer in layers)
    return 2 * values * _FLOAT32_MIB
