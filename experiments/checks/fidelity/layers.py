"""Each kind of layer; and a pass through PyTorch's module and this project's, layer or network."""

from collections import defaultdict
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch
from flax import nnx
from torch import nn

from experiments.checks.fidelity.parts import Cases, Comparison, Part, worst
from experiments.pytorch.resnet import numpy_tensors
from jaxresnet import platform
from jaxresnet.kernels.pooling import max_pool
from jaxresnet.models.layers import BatchNorm, Conv, Linear, global_average_pool
from jaxresnet.models.resnet import STEMS
from jaxresnet.models.torch_names import LEAF_NAMES, Weights, from_torch_axes, to_torch_axes

# By PyTorch's names: "outputs"; the gradients of the sum of their sines by "inputs" and by each
# parameter; and the running statistics after the pass.
Tensors = dict[str, np.ndarray]

BOUNDS = {"float32": 1e-5, "float64": 1e-10}
# Kernel size, stride, padding, input and output features, image size: the stems', and all kinds
# that blocks have, some with an odd image size.
_CONVOLUTIONS = [
    *((stem.kernel_size, stem.stride, stem.padding, 3, 64, 32) for stem in STEMS.values()),
    (3, 1, 1, 64, 64, 16),
    (3, 1, 1, 32, 48, 9),
    (3, 2, 1, 64, 128, 16),
    (3, 2, 1, 32, 48, 15),
    (1, 1, 0, 64, 256, 8),
    (1, 2, 0, 64, 128, 16),
    (1, 2, 0, 32, 48, 7),
]


def draw(shape: tuple[int, ...], dtype: str, seed: int = 0) -> np.ndarray:
    """Normally distributed values; those of float32 in every dtype."""
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32).astype(dtype)


def run_torch(module: nn.Module, inputs: np.ndarray) -> Tensors:
    """PyTorch's pass, in the dtype of the inputs, (batch, ..., features)."""
    x = torch.from_numpy(channels_first(inputs)).requires_grad_()
    module.to(x.dtype).zero_grad()
    outputs = module(x)
    outputs.sin().sum().backward()
    tensors: dict[str, Any] = {
        "outputs": outputs.detach(),
        "inputs": x.grad,
        **{name: parameter.grad for name, parameter in module.named_parameters()},
        **{name: buffer for name, buffer in module.named_buffers() if "running" in name},
    }
    return {name: tensor.numpy().copy() for name, tensor in tensors.items()}


def run_jax(
    module: nnx.Module,
    weights: Weights,
    inputs: np.ndarray,
    to_torch: Callable[[Weights], Tensors],
    **call: bool,
) -> Tensors:
    """This project's pass, in the dtype of the inputs; compiled as the training step is.

    Args:
      weights: in place of the module's own.
      to_torch: names weights, or gradients in place of params, as PyTorch does.
      call: further arguments of the module.
    """
    graph, _ = nnx.split(module)

    def loss(params: Any, statistics: Any, inputs: jax.Array) -> tuple[jax.Array, Any]:
        model: Any = nnx.merge(graph, params, statistics, copy=True)
        outputs = model(inputs, **call)
        return jnp.sin(outputs).sum(), (outputs, nnx.to_pure_dict(nnx.state(model, nnx.BatchStat)))

    run = jax.jit(
        jax.grad(loss, (0, 2), has_aux=True), compiler_options=platform.compiler_options()
    )
    with jax.enable_x64(inputs.dtype == np.float64):
        arguments = weights.params, weights.batch_stats, inputs
        arguments = jax.tree.map(partial(jnp.asarray, dtype=inputs.dtype), arguments)
        (gradients, input_gradient), (outputs, after) = run(*arguments)
    activations = {"outputs": outputs, "inputs": input_gradient}
    named = {name: channels_first(np.asarray(array)) for name, array in activations.items()}
    return named | to_torch(Weights(gradients, after))


def channels_first(array: np.ndarray) -> np.ndarray:
    """(batch, height, width, features) -> (batch, features, height, width), a view."""
    return array.transpose(0, 3, 1, 2) if array.ndim == 4 else array


def differences(actual: Tensors, expected: Tensors) -> dict[str, float]:
    """Of each expected tensor, the largest difference over the largest magnitude.

    A bias's gradient is measured by its weight's where that is larger: before a batch norm in
    training, which takes the mean off again, a bias has no gradient but rounding.
    """
    scales = {name: float(np.abs(tensor).max()) for name, tensor in expected.items()}
    relative = {}
    for name, tensor in expected.items():
        if actual[name].shape != tensor.shape:
            raise ValueError(f"{name}: shapes differ: {actual[name].shape} and {tensor.shape}")
        largest = float(np.abs(actual[name].astype(np.float64) - tensor).max())
        relative[name] = largest / max(scales[name], scales.get(name.replace("bias", "weight"), 0))
    return relative


def _layers(
    dtype: str,
) -> Iterator[tuple[str, nn.Module, nnx.Module, np.ndarray, dict[str, bool]]]:
    """The kind, PyTorch's layer, the same one here, its inputs, and further arguments."""
    rngs = nnx.Rngs(0)
    for size, stride, padding, inputs, outputs, pixels in _CONVOLUTIONS:
        module = nn.Conv2d(inputs, outputs, size, stride, padding)
        make = partial(Conv, use_bias=True, dtype=dtype, rngs=rngs)
        conv = make(inputs, outputs, size, stride=stride, padding=padding)
        images = draw((4, pixels, pixels, inputs), dtype)
        yield "convolutions, with bias", module, conv, images, {}
    norm = nn.BatchNorm2d(24)
    for tensor in (norm.weight, norm.bias, norm.running_mean, norm.running_var):
        assert tensor is not None
        nn.init.uniform_(tensor, 0.5, 2)
    for train in (True, False):
        images, call = 3 + 2 * draw((6, 7, 7, 24), dtype), {"train": train}
        name = "batch norm, training and evaluation"
        yield name, norm.train(train), BatchNorm(24, dtype=dtype), images, call
    linear = Linear(512, 10, dtype=dtype, rngs=rngs)
    yield "linear", nn.Linear(512, 10), linear, draw((16, 512), dtype), {}
    average = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    for pixels in (16, 15):
        images = draw((4, pixels, pixels, 5), dtype)
        pool = nn.MaxPool2d(3, 2, padding=1)
        yield "max pooling", pool, nnx.Sequential(max_pool), images, {}
        yield "average pooling", average, nnx.Sequential(global_average_pool), images, {}


def _compare(dtype: str) -> list[Comparison]:
    """Outputs, gradients and statistics, with PyTorch's weights on both sides."""

    def to_torch(weights: Weights) -> Tensors:
        leaves = (weights.params | weights.batch_stats).items()
        return {LEAF_NAMES[key]: to_torch_axes(np.asarray(value)) for key, value in leaves}

    torch.manual_seed(0)
    largest = defaultdict[str, list[float]](list)
    with jax.enable_x64(dtype == "float64"):
        for name, module, layer, inputs, call in _layers(dtype):
            tensors = numpy_tensors(module)
            params, statistics = (
                {key: from_torch_axes(tensors[LEAF_NAMES[key]]) for key in nnx.to_pure_dict(state)}
                for state in nnx.split(layer, nnx.Param, nnx.BatchStat)[1:]
            )
            actual = run_jax(layer, Weights(params, statistics), inputs, to_torch, **call)
            largest[name] += differences(actual, run_torch(module, inputs)).values()
    return [
        Comparison(f"{name}: outputs and gradients, {dtype}", worst(values), BOUNDS[dtype])
        for name, values in largest.items()
    ]


def _cases(*_: Any) -> Cases:
    return {dtype: partial(_compare, dtype) for dtype in BOUNDS}


PART = Part(_cases, note="Differences are the largest over the largest magnitude of the tensor.")
