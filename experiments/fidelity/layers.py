"""Each kind of layer: outputs, gradients and running statistics."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch
from flax import nnx
from torch import nn

from experiments.fidelity.comparison import Comparison, relative_difference, worst
from jaxresnet import platform
from jaxresnet.models.conv import Conv
from jaxresnet.models.layers import BatchNorm, Linear, global_average_pool, max_pool
from jaxresnet.models.torch_weights import LEAF_NAMES, from_torch_axes, to_torch_axes

BOUNDS = {"float32": 1e-5, "float64": 1e-10}
_BATCH_NORM_STEPS = 5

# Kernel size, stride, input and output features, image size: all kinds that ResNets have, some
# with an odd image size.
CONVOLUTIONS = [
    (3, 1, 3, 64, 32),
    (7, 2, 3, 64, 64),
    (3, 1, 64, 64, 16),
    (3, 1, 32, 48, 9),
    (3, 2, 64, 128, 16),
    (3, 2, 32, 48, 15),
    (1, 1, 64, 256, 8),
    (1, 2, 64, 128, 16),
    (1, 2, 32, 48, 7),
]


def compare_layers() -> list[Comparison]:
    """All kinds of layers, in float32 and in float64."""
    torch.manual_seed(0)
    comparisons = []
    for dtype, bound in BOUNDS.items():
        with jax.enable_x64(dtype == "float64"):
            found = {
                "convolutions, with bias": _compare_convolutions(dtype),
                "batch norm, training and evaluation": _compare_batch_norm(dtype),
                "linear": _compare_linear(dtype),
                "max and average pooling": _compare_pooling(dtype),
            }
        comparisons += [
            Comparison(f"{what}: outputs and gradients, {dtype}", largest, bound)
            for what, largest in found.items()
        ]
    return comparisons


def _compare_convolutions(dtype: str) -> float:
    differences = []
    for size, stride, inputs, outputs, pixels in CONVOLUTIONS:
        theirs = nn.Conv2d(inputs, outputs, size, stride, padding=size // 2)
        ours = Conv(
            inputs,
            outputs,
            size,
            stride=stride,
            use_bias=True,
            dtype=dtype,
            rngs=nnx.Rngs(0),
        )
        images = _draw((4, pixels, pixels, inputs), dtype)
        differences.append(_compare(theirs, ours, images))
    return worst(differences)


def _compare_linear(dtype: str) -> float:
    ours = Linear(512, 10, dtype=dtype, rngs=nnx.Rngs(0))
    return _compare(nn.Linear(512, 10), ours, _draw((16, 512), dtype))


def _compare_batch_norm(dtype: str) -> float:
    """Some training steps, then an evaluation; each side keeps its own running statistics."""
    theirs, ours = nn.BatchNorm2d(24), BatchNorm(24, dtype=dtype)
    nn.init.uniform_(theirs.weight, -2, 2)
    nn.init.normal_(theirs.bias)
    differences = []
    for step in range(_BATCH_NORM_STEPS + 1):
        train = step < _BATCH_NORM_STEPS
        theirs.train(train)
        images = 3 + 2 * _draw((6, 7, 7, 24), dtype, seed=step)
        differences.append(_compare(theirs, ours, images, train=train))
    return worst(differences)


def _compare_pooling(dtype: str) -> float:
    average = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    pairs: list[tuple[nn.Module, Callable[[jax.Array], jax.Array]]] = [
        (nn.MaxPool2d(3, 2, padding=1), max_pool),
        (average, global_average_pool),
    ]
    images = [_draw((4, size, size, 5), dtype) for size in (16, 15)]
    return worst(_compare(theirs, ours, batch) for theirs, ours in pairs for batch in images)


def _draw(shape: tuple[int, ...], dtype: str, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(dtype)


def _compare(theirs: nn.Module, ours: Any, inputs: np.ndarray, **call: bool) -> float:
    """The largest difference among outputs, gradients and statistics, for a random cotangent."""
    theirs = theirs.to(torch.from_numpy(inputs).dtype)
    if isinstance(ours, nnx.Module):
        _load_params(ours, theirs)
    x = torch.from_numpy(_to_nchw(inputs)).requires_grad_()
    theirs.zero_grad()
    outputs = theirs(x)
    cotangent = _draw(tuple(outputs.shape), str(inputs.dtype), seed=1)
    outputs.backward(torch.from_numpy(cotangent))
    assert x.grad is not None
    expected = {"outputs": outputs.detach().numpy(), "inputs": x.grad.numpy()}
    expected |= {n: p.grad.numpy() for n, p in theirs.named_parameters() if p.grad is not None}
    expected |= {n: t.numpy() for n, t in theirs.named_buffers() if "running" in n}

    run = _run_layer if isinstance(ours, nnx.Module) else _run_function
    found = run(ours, inputs, _to_nhwc(cotangent), **call)
    return worst(relative_difference(found[name], expected[name]) for name in expected)


def _load_params(ours: nnx.Module, theirs: nn.Module) -> None:
    """Gives our layer PyTorch's parameters; the running statistics stay its own."""
    tensors = dict(theirs.named_parameters())
    for key, value in vars(ours).items():
        if isinstance(value, nnx.Param):
            array = from_torch_axes(tensors[LEAF_NAMES[key]].detach().numpy())
            value.set_value(jnp.asarray(array))
        elif isinstance(value, nnx.BatchStat):
            value.set_value(value[...].astype(next(theirs.parameters()).detach().numpy().dtype))


def _run_function(
    function: Callable[[jax.Array], jax.Array], inputs: np.ndarray, cotangent: np.ndarray
) -> dict[str, np.ndarray]:
    def run(inputs: jax.Array, cotangent: jax.Array) -> tuple[jax.Array, jax.Array]:
        outputs, pull_back = jax.vjp(function, inputs)
        return outputs, pull_back(cotangent)[0]

    outputs, input_gradient = _compile(run)(jnp.asarray(inputs), jnp.asarray(cotangent))
    return {"outputs": _to_nchw(outputs), "inputs": _to_nchw(input_gradient)}


def _run_layer(
    layer: Any, inputs: np.ndarray, cotangent: np.ndarray, **call: bool
) -> dict[str, np.ndarray]:
    """Outputs, gradients and new statistics by PyTorch's names; the layer keeps the latter."""
    graph, params, statistics = nnx.split(layer, nnx.Param, nnx.BatchStat)

    def forward(params: Any, inputs: jax.Array) -> tuple[jax.Array, Any]:
        model = nnx.merge(graph, params, statistics, copy=True)
        return model(inputs, **call), nnx.state(model, nnx.BatchStat)

    def run(params: Any, inputs: jax.Array, cotangent: jax.Array) -> tuple[Any, ...]:
        outputs, pull_back, after = jax.vjp(forward, params, inputs, has_aux=True)
        return outputs, after, *pull_back(cotangent)

    outputs, after, gradients, input_gradient = _compile(run)(
        params, jnp.asarray(inputs), jnp.asarray(cotangent)
    )
    nnx.update(layer, after)
    arrays = {**nnx.to_pure_dict(gradients), **nnx.to_pure_dict(after)}
    found = {LEAF_NAMES[key]: to_torch_axes(np.asarray(value)) for key, value in arrays.items()}
    return found | {"outputs": _to_nchw(outputs), "inputs": _to_nchw(input_gradient)}


def _compile(function: Callable[..., Any]) -> Callable[..., Any]:
    """As the training step is compiled."""
    return jax.jit(function, compiler_options=platform.compiler_options())


def _to_nchw(array: Any) -> np.ndarray:
    array = np.asarray(array)
    return np.ascontiguousarray(array.transpose(0, 3, 1, 2)) if array.ndim == 4 else array


def _to_nhwc(array: np.ndarray) -> np.ndarray:
    return array.transpose(0, 2, 3, 1) if array.ndim == 4 else array
