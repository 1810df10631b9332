"""Each kind of layer: outputs, gradients and running statistics."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import jax
import numpy as np
import torch
from flax import nnx
from torch import nn

from experiments.checks.fidelity.parts import Cases, Comparison, Part, worst
from experiments.checks.fidelity.passes import Tensors, differences, draw, run_jax, run_torch
from experiments.pytorch.resnet import numpy_tensors
from jaxresnet.kernels.pooling import max_pool
from jaxresnet.models.layers import BatchNorm, Conv, Linear, global_average_pool
from jaxresnet.models.resnet import STEMS
from jaxresnet.models.torch_names import LEAF_NAMES, Weights, from_torch_axes, to_torch_axes

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


def _convolutions(dtype: str) -> Iterator[float]:
    make = partial(Conv, use_bias=True, dtype=dtype, rngs=nnx.Rngs(0))
    for size, stride, padding, inputs, outputs, pixels in _CONVOLUTIONS:
        conv = make(inputs, outputs, size, stride=stride, padding=padding)
        images = draw((4, pixels, pixels, inputs), dtype)
        yield _difference(nn.Conv2d(inputs, outputs, size, stride, padding), conv, images)


def _batch_norm(dtype: str) -> Iterator[float]:
    module = nn.BatchNorm2d(24)
    for tensor in (module.weight, module.bias, module.running_mean, module.running_var):
        assert tensor is not None
        nn.init.uniform_(tensor, 0.5, 2)
    for train in (True, False):
        images = 3 + 2 * draw((6, 7, 7, 24), dtype)
        yield _difference(module.train(train), BatchNorm(24, dtype=dtype), images, train=train)


def _linear(dtype: str) -> Iterator[float]:
    layer = Linear(512, 10, dtype=dtype, rngs=nnx.Rngs(0))
    yield _difference(nn.Linear(512, 10), layer, draw((16, 512), dtype))


def _pooling(module: nn.Module, pool: Callable[..., jax.Array], dtype: str) -> Iterator[float]:
    for size in (16, 15):
        yield _difference(module, nnx.Sequential(pool), draw((4, size, size, 5), dtype))


_AVERAGE = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
LAYERS: dict[str, Callable[[str], Iterator[float]]] = {
    "convolutions, with bias": _convolutions,
    "batch norm, training and evaluation": _batch_norm,
    "linear": _linear,
    "max pooling": partial(_pooling, nn.MaxPool2d(3, 2, padding=1), max_pool),
    "average pooling": partial(_pooling, _AVERAGE, global_average_pool),
}


def _difference(module: nn.Module, layer: nnx.Module, inputs: np.ndarray, **call: bool) -> float:
    """The worst of outputs, gradients and statistics, with PyTorch's weights on both sides."""
    tensors = numpy_tensors(module)
    _, *states = nnx.split(layer, nnx.Param, nnx.BatchStat)
    params, batch_stats = (
        {key: from_torch_axes(tensors[LEAF_NAMES[key]]) for key in nnx.to_pure_dict(state)}
        for state in states
    )

    def to_torch(weights: Weights) -> Tensors:
        leaves = (weights.params | weights.batch_stats).items()
        return {LEAF_NAMES[key]: to_torch_axes(np.asarray(value)) for key, value in leaves}

    actual = run_jax(layer, Weights(params, batch_stats), inputs, to_torch, **call)
    return worst(differences(actual, run_torch(module, inputs)).values())


def _compare(name: str, dtype: str) -> list[Comparison]:
    torch.manual_seed(0)
    with jax.enable_x64(dtype == "float64"):
        largest = worst(LAYERS[name](dtype))
    return [Comparison(f"{name}: outputs and gradients, {dtype}", largest, BOUNDS[dtype])]


def _cases(*_: Any) -> Cases:
    return {
        f"{name}, {dtype}": partial(_compare, name, dtype) for dtype in BOUNDS for name in LAYERS
    }


PART = Part(_cases, note="Differences are the largest over the largest magnitude of the tensor.")
