"""One forward and backward pass of a whole network, in PyTorch and here, from the same weights."""

from dataclasses import asdict, dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import torch
from flax import nnx
from torch import nn

from experiments.pytorch.resnet import TorchResNet, numpy_tensors
from jaxresnet import platform
from jaxresnet.models.resnet import create_model
from jaxresnet.models.torch_weights import Weights, from_torch, to_torch, weights_of
from jaxresnet.train.state import split_model

_IMAGE_SIZES = {"cifar": 32, "imagenet": 64}


@dataclass(frozen=True)
class Architecture:
    """A network to compare: create_model's arguments."""

    name: str
    stem: str = "cifar"
    norm: str = "batch"
    conv_bias: bool = False
    width: int = 64
    num_classes: int = 10

    @property
    def words(self) -> str:
        parts = [self.name, f"{self.stem} stem"]
        parts += ["without norm"] if self.norm == "none" else []
        parts += ["with conv bias"] if self.conv_bias else []
        return ", ".join(parts)


@dataclass(frozen=True)
class Outcome:
    """What a forward and a backward pass give, by PyTorch's names; statistics: after the pass."""

    logits: np.ndarray
    gradients: dict[str, np.ndarray]
    statistics: dict[str, np.ndarray]


@dataclass(frozen=True)
class Problem:
    """Weights by PyTorch's names, normalised images (batch, height, width, 3), and labels."""

    architecture: Architecture
    tensors: dict[str, np.ndarray]
    images: np.ndarray
    labels: np.ndarray


def random_torch_network(architecture: Architecture, seed: int) -> TorchResNet:
    """PyTorch's initial weights, with batch norm's arrays drawn too, so that none are alike.

    The last scale of each block is small, as torchvision's zero_init_residual makes it: with
    scales around 1 a deep network in training mode multiplies rounding errors by 10,000.
    """
    torch.manual_seed(seed)
    network = TorchResNet(**asdict(architecture))
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.1)
            nn.init.normal_(module.get_buffer("running_mean"), std=0.1)
            nn.init.uniform_(module.get_buffer("running_var"), 0.5, 1.5)
    for last in network.last_norms():
        nn.init.uniform_(last.weight, 0.05, 0.15)
    return network


def copy_tensors(network: TorchResNet) -> dict[str, np.ndarray]:
    """The network's state dict as NumPy arrays of their own."""
    return {name: np.array(tensor) for name, tensor in numpy_tensors(network).items()}


def draw_problem(
    architecture: Architecture, tensors: dict[str, np.ndarray], batch: int, seed: int
) -> Problem:
    """Normally distributed images and random labels."""
    generator = np.random.default_rng(seed)
    size = _IMAGE_SIZES[architecture.stem]
    images = generator.normal(size=(batch, size, size, 3)).astype(np.float32)
    return Problem(architecture, tensors, images, generator.integers(0, 10, batch))


def as_float64(problem: Problem) -> Problem:
    """The same problem for networks in float64; the weights follow the images."""
    return replace(problem, images=problem.images.astype(np.float64))


def run_torch(problem: Problem, train: bool) -> Outcome:
    """PyTorch's outcome, in the dtype of the images."""
    network = load_torch(problem).train(train)
    logits = network(torch_images(problem))
    nn.functional.cross_entropy(logits, torch.from_numpy(problem.labels)).backward()
    gradients = {
        name: p.grad.numpy() for name, p in network.named_parameters() if p.grad is not None
    }
    buffers = {name: buffer.numpy() for name, buffer in network.named_buffers()}
    return Outcome(logits.detach().numpy(), gradients, buffers)


def load_torch(problem: Problem) -> TorchResNet:
    """PyTorch's network with the problem's weights, in the dtype of its images."""
    network = TorchResNet(**asdict(problem.architecture))
    network.load_state_dict({n: torch.from_numpy(t) for n, t in problem.tensors.items()})
    return network.to(torch_images(problem).dtype)


def torch_images(problem: Problem) -> torch.Tensor:
    """The images as (batch, 3, height, width)."""
    images = torch.from_numpy(problem.images).permute(0, 3, 1, 2)
    return images.contiguous(memory_format=torch.channels_last)


def run_here(problem: Problem, train: bool, backward: bool = True) -> Outcome:
    """The same with this project's network; no gradients without `backward`."""
    dtype = problem.images.dtype
    options: dict[str, Any] = asdict(problem.architecture)
    model = create_model(**options, dtype=dtype, rngs=nnx.Rngs(0))
    loaded = from_torch(problem.tensors, weights_of(model))
    network, _, _ = split_model(model)
    params, batch_stats = jax.tree.map(
        lambda array: jnp.asarray(array, dtype), (loaded.params, loaded.batch_stats)
    )

    def loss(params: Any, batch_stats: Any, images: jax.Array) -> tuple[jax.Array, Any]:
        logits, after = network.apply(params, batch_stats, images, train=train)
        targets = jnp.asarray(problem.labels, jnp.int32)
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, targets)
        return losses.mean(), (logits, after)

    def forward(*arguments: Any) -> tuple[Any, Any]:
        return {}, loss(*arguments)[1]

    function = jax.grad(loss, has_aux=True) if backward else forward
    run = jax.jit(function, compiler_options=platform.compiler_options())
    gradients, (logits, after) = run(params, batch_stats, jnp.asarray(problem.images))
    statistics = to_torch(Weights({}, after))
    return Outcome(np.asarray(logits), to_torch(Weights(gradients, {})), statistics)
