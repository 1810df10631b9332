"""Whole networks with PyTorch's weights: logits, running statistics and every gradient."""

import copy
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from functools import cache, partial
from typing import Any

import numpy as np
import torch
from flax import nnx
from torch import nn

from experiments.checks.fidelity.comparison import Case, Comparison, Part, worst
from experiments.checks.fidelity.options import CompareOptions
from experiments.checks.fidelity.passes import (
    Tensors,
    channels_first,
    differences,
    draw,
    run_jax,
    run_torch,
)
from experiments.pytorch.resnet import TorchResNet, create_torch_model, numpy_tensors
from jaxresnet.data.dataset import Dataset
from jaxresnet.errors import CheckFailed
from jaxresnet.models.resnet import MODELS, NORMS, STEMS, create_model
from jaxresnet.models.torch_names import Weights, from_torch, to_torch, weights_of
from jaxresnet.train.state import Network, split_model

_LOGITS_BOUND, _GRADIENTS_BOUND, _FLOAT64_BOUND = 1e-4, 1e-3, 1e-8
_BATCH = 2
# What _NOTE explains. A wide and deep network has millions of rectifiers and no images that keep
# all of them off zero: it is made thinner until it has.
_MARGIN = 4
_IMAGES_TRIED = 10
_LEAST_WIDTH = 8
# With PyTorch's own initial weights float32 does not decide: how much further from float64 than
# PyTorch's float32 this one may be, since which rectifiers flip is chance on both sides.
_DISTANCE_BOUND = 3.0
_DISTANCE_BATCHES = {"resnet18": 16, "resnet50": 4, "resnet152": 2}  # at width 64

_NOTE = (
    "The largest difference over the largest magnitude, of the worst tensor; evaluation and "
    "training mode, two random images. A rectifier whose input is within rounding of zero moves "
    "float32 gradients by a thousandth, whoever computes them; so those are compared on the first "
    f"images that keep every rectifier's input further from zero than {_MARGIN} times PyTorch's "
    "own rounding error there (their number is given if they are not the first), and on a thinner "
    "network where a wide one has no such images. In float64 no input is in doubt. With PyTorch's "
    "initial weights no images are that clear: there both sides' float32 is held to float64, and "
    "two results in float32 may differ by the sum of their distances to it."
)


@dataclass(frozen=True)
class Architecture:
    """A network to compare: create_model's arguments."""

    name: str
    stem: str = "cifar"
    norm: str = "batch"
    conv_bias: bool = False
    width: int = 64

    @property
    def title(self) -> str:
        bias = ", conv bias" if self.conv_bias else ""
        return f"{self.name}, {self.stem} stem, norm {self.norm}{bias}"

    def images(self, batch: int, dtype: str, seed: int = 0) -> np.ndarray:
        """Of CIFAR-10's size, or as many pixels as leave the stages 16."""
        stem = STEMS[self.stem]
        pixels = max(32, 16 * stem.stride * (2 if stem.pool else 1))
        return draw((batch, pixels, pixels, 3), dtype, seed)


# ResNet-18 with every stem; the deeper ones, which are for large images, with the paper's. Each
# with and without normalisation and bias.
ARCHITECTURES = tuple(
    Architecture(name, stem, norm, conv_bias)
    for name in MODELS
    for stem in (STEMS if name == "resnet18" else ("imagenet",))
    for norm in NORMS
    for conv_bias in (False, True)
)


def random_torch_network(architecture: Architecture) -> TorchResNet:
    """PyTorch's initial weights, with batch norm's arrays drawn too, so that none are alike.

    The last scale of each block is small, as torchvision's zero_init_residual makes it: with
    scales around 1 a deep network in training mode multiplies rounding errors by 10,000.
    """
    network = initial_torch_network(architecture)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.1)
            nn.init.normal_(module.get_buffer("running_mean"), std=0.1)
            nn.init.uniform_(module.get_buffer("running_var"), 0.5, 1.5)
    for last in network.last_norms():
        nn.init.uniform_(last.weight, 0.05, 0.15)
    return network


def initial_torch_network(architecture: Architecture) -> TorchResNet:
    """PyTorch's initial weights, always the same."""
    torch.manual_seed(0)
    return create_torch_model(**asdict(architecture))


def load_jax(
    architecture: Architecture, network: TorchResNet, dtype: Any
) -> tuple[Network, Weights]:
    """This project's network in that dtype, and the weights of PyTorch's, in float32."""
    model = create_model(**asdict(architecture), dtype=dtype, rngs=nnx.Rngs(0))
    return split_model(model)[0], from_torch(numpy_tensors(network), weights_of(model))


def _run_both(
    architecture: Architecture, network: TorchResNet, images: np.ndarray, train: bool
) -> tuple[Tensors, Tensors]:
    """What a pass gives here and in PyTorch, from PyTorch's weights."""
    jax_network, weights = load_jax(architecture, network.float(), images.dtype)
    here = run_jax(
        partial(jax_network.apply, train=train),
        weights.params,
        weights.batch_stats,
        images,
        lambda params, statistics: to_torch(Weights(params, statistics)),
    )
    return here, run_torch(network.train(train), images)


@cache
def _differences(
    architecture: Architecture, dtype: str, train: bool, seed: int
) -> dict[str, float]:
    images = architecture.images(_BATCH, dtype, seed)
    return differences(*_run_both(architecture, random_torch_network(architecture), images, train))


def _compare(architecture: Architecture) -> Iterator[Comparison]:
    """Logits, running statistics and gradients by name, evaluation and training.

    In float32, and all of it in float64, where no rectifier is in doubt.
    """
    title = architecture.title
    modes = (False, True) if NORMS[architecture.norm] else (True,)
    passes = [_differences(architecture, "float32", train, 0) for train in modes]
    logits = worst(tensors["outputs"] for tensors in passes)
    yield Comparison(f"{title}: logits, float32", logits, _LOGITS_BOUND)
    thinner, seed = _find_decided(architecture)
    decided = [_differences(thinner, "float32", train, seed) for train in modes]
    gradients = worst(d for tensors in decided for n, d in tensors.items() if "running" not in n)
    what = f"{title}: gradients, float32"
    what += f", width {thinner.width}" if thinner != architecture else ""
    what += f", images {seed + 1}" if seed else ""
    yield Comparison(what, gradients, _GRADIENTS_BOUND)
    running = [d for tensors in passes for name, d in tensors.items() if "running" in name]
    if running:
        yield Comparison(f"{title}: running statistics, float32", worst(running), _LOGITS_BOUND)
    exact = worst(
        d for train in modes for d in _differences(architecture, "float64", train, 0).values()
    )
    yield Comparison(f"{title}: all of these, float64", exact, _FLOAT64_BOUND)


def _find_decided(architecture: Architecture) -> tuple[Architecture, int]:
    """The architecture, or a thinner one, and the seed of the first images that float32 decides."""
    network = random_torch_network(architecture)
    for seed in range(_IMAGES_TRIED):
        images = architecture.images(_BATCH, "float32", seed)
        if all(_is_decided(network.train(train), images) for train in (True, False)):
            return architecture, seed
    if architecture.width <= _LEAST_WIDTH:
        raise CheckFailed(f"{architecture.title}: float32 decides none of {_IMAGES_TRIED} inputs")
    return _find_decided(replace(architecture, width=architecture.width // 2))


def _is_decided(network: TorchResNet, images: np.ndarray) -> bool:
    """Whether rounding leaves every rectifier of PyTorch's network well on its side of zero."""
    x = torch.from_numpy(channels_first(images))
    rounded, exact = (
        copy.deepcopy(network).to(dtype).relu_inputs(x.to(dtype))
        for dtype in (torch.float32, torch.float64)
    )
    return all(
        float(right.abs().min()) > _MARGIN * float((wrong - right).square().mean().sqrt())
        for wrong, right in zip(rounded, exact, strict=True)
    )


def _compare_initial(architecture: Architecture, batch: int) -> list[Comparison]:
    """Gradients in training mode with PyTorch's own initial weights, held to float64."""
    network = initial_torch_network(architecture)
    here, pytorch = _run_both(architecture, network, architecture.images(batch, "float32"), True)
    network = initial_torch_network(architecture).train()
    exact = run_torch(network, architecture.images(batch, "float64"))
    distances = [worst(differences(*pair).values()) for pair in ((here, exact), (pytorch, exact))]
    between = worst(differences(here, pytorch).values())
    what = (
        f"{architecture.title}, PyTorch's initial weights, {batch} images: distance to float64, "
        "{:.1e}, over PyTorch's, {:.1e} ({:.1e} apart)".format(*distances, between)
    )
    return [Comparison(what, distances[0] / distances[1], _DISTANCE_BOUND)]


def _cases(options: CompareOptions, _: Dataset) -> Mapping[str, Case]:
    chosen = [replace(a, width=options.width) for a in ARCHITECTURES if a.name in options.networks]
    initial = [
        (Architecture(name, width=options.width), batch * max(1, 64 // options.width))
        for name, batch in _DISTANCE_BATCHES.items()
        if name in options.networks
    ]
    return {
        **{a.title: lambda a=a: list(_compare(a)) for a in chosen},
        **{f"{a.title}, initial": partial(_compare_initial, a, b) for a, b in initial},
    }


PART = Part(_cases, note=_NOTE)
