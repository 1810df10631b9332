"""A forward and a backward pass in PyTorch and here, from the same weights, by PyTorch's names."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch
from flax import nnx
from torch import nn

from jaxresnet import platform
from jaxresnet.models.torch_names import Weights

# "outputs"; the gradients of the sum of their sines by "inputs" and by each parameter; and the
# running statistics after the pass.
Tensors = dict[str, np.ndarray]


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
      to_torch: names weights, and gradients in place of params, as PyTorch does.
      call: further arguments of the module.
    """
    graph, _ = nnx.split(module)

    def loss(params: Any, statistics: Any, inputs: jax.Array) -> tuple[jax.Array, Any]:
        model: Any = nnx.merge(graph, params, statistics, copy=True)
        outputs = model(inputs, **call)
        after = nnx.to_pure_dict(nnx.state(model, nnx.BatchStat))
        return jnp.sin(outputs).sum(), (outputs, after)

    with jax.enable_x64(inputs.dtype == np.float64):
        arguments = jax.tree.map(
            lambda array: jnp.asarray(array, inputs.dtype),
            (weights.params, weights.batch_stats, inputs),
        )
        run = jax.jit(
            jax.grad(loss, (0, 2), has_aux=True), compiler_options=platform.compiler_options()
        )
        (gradients, input_gradient), (outputs, after) = run(*arguments)
    activations = {"outputs": outputs, "inputs": input_gradient}
    named = {name: channels_first(np.asarray(array)) for name, array in activations.items()}
    return named | to_torch(Weights(gradients, after))


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


def channels_first(array: np.ndarray) -> np.ndarray:
    """(batch, height, width, features) -> (batch, features, height, width), a view."""
    return array.transpose(0, 3, 1, 2) if array.ndim == 4 else array
