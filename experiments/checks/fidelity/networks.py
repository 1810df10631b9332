"""Whole networks with PyTorch's weights: logits, running statistics and every gradient."""

import copy
from dataclasses import asdict, dataclass, replace
from functools import cache, partial
from typing import Any

import numpy as np
import torch
from flax import nnx
from torch import nn

from experiments.checks.fidelity import layers
from experiments.checks.fidelity.layers import Tensors, differences, run_torch
from experiments.checks.fidelity.parts import Cases, Comparison, Part, Size, worst
from experiments.pytorch.resnet import TorchResNet, create_torch_model, numpy_tensors
from jaxresnet.data.dataset import Dataset
from jaxresnet.errors import CheckFailed
from jaxresnet.models.resnet import MODELS, NORMS, STEMS, ResNet, create_model
from jaxresnet.models.torch_names import Weights, from_torch, to_torch, weights_of

_LOGITS_BOUND, _GRADIENTS_BOUND, _FLOAT64_BOUND = 1e-4, 1e-3, 1e-8
_BATCH = 2
# What the note explains. A wide and deep network has millions of rectifiers and no images that keep
# all of them off zero: it is made thinner until it has. The thinnest is quick to try, and gets the
# most tries: of 24 images one kept the rectifiers of the thinnest ResNet-101 off zero 2 times.
_MARGIN = 4
_LEAST_WIDTH = 8
_TRIES_TIMES_WIDTH = 800
# With PyTorch's own initial weights float32 does not decide: how much further from float64 than
# PyTorch's float32 this one may be, since which rectifiers flip is chance on both sides.
_DISTANCE_BOUND = 3.0
_DISTANCE_BATCHES = {"resnet18": 16, "resnet50": 4, "resnet152": 2}  # at width 64


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
        return layers.draw((batch, pixels, pixels, 3), dtype, seed)

    def torch_network(self, *, drawn: bool) -> TorchResNet:
        """With PyTorch's initial weights, always the same.

        drawn: batch norm's arrays too, so that none are alike. The last scale of each block is
        small then, as torchvision's zero_init_residual makes it: with scales around 1 a deep
        network in training mode multiplies rounding errors by 10,000.
        """
        torch.manual_seed(0)
        network = create_torch_model(**asdict(self))
        norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
        for norm in norms if drawn else ():
            nn.init.uniform_(norm.weight, 0.5, 1.5)
            nn.init.normal_(norm.bias, std=0.1)
            nn.init.normal_(norm.get_buffer("running_mean"), std=0.1)
            nn.init.uniform_(norm.get_buffer("running_var"), 0.5, 1.5)
        for last in network.last_norms() if drawn else ():
            nn.init.uniform_(last.weight, 0.05, 0.15)
        return network

    def load_jax(self, network: TorchResNet, dtype: Any) -> tuple[ResNet, Weights]:
        """This project's network in that dtype, and the weights of PyTorch's, in float32."""
        model = create_model(**asdict(self), dtype=dtype, rngs=nnx.Rngs(0))
        return model, from_torch(numpy_tensors(network), weights_of(model))


# ResNet-18 with every stem; the deeper ones, which are for large images, with the paper's. Each
# with and without normalisation and bias.
ARCHITECTURES = tuple(
    Architecture(name, stem, norm, conv_bias)
    for name in MODELS
    for stem in (STEMS if name == "resnet18" else ("imagenet",))
    for norm in NORMS
    for conv_bias in (False, True)
)


def _run_both(
    architecture: Architecture, images: np.ndarray, *, drawn: bool, train: bool
) -> tuple[Tensors, Tensors]:
    """What a pass gives here and in PyTorch, from PyTorch's weights in float32."""
    network = architecture.torch_network(drawn=drawn).train(train)
    model, weights = architecture.load_jax(network, images.dtype)
    here = layers.run_jax(model, weights, images, to_torch, train=train)
    return here, run_torch(network, images)


@cache
def _differences(architecture: Architecture, dtype: str, seed: int) -> dict[str, float]:
    """Of each tensor, the worse of evaluation and training mode."""
    images = architecture.images(_BATCH, dtype, seed)
    modes = [
        differences(*_run_both(architecture, images, drawn=True, train=train))
        for train in ((False, True) if NORMS[architecture.norm] else (True,))
    ]
    return {name: worst(mode[name] for mode in modes) for name in modes[0]}


def _compare(architecture: Architecture) -> list[Comparison]:
    """Logits, running statistics and gradients in float32, and all of it in float64."""
    title, tensors = architecture.title, _differences(architecture, "float32", 0)
    running = [difference for name, difference in tensors.items() if "running" in name]
    thinner, seed = _find_decided(architecture)
    decided = _differences(thinner, "float32", seed)
    gradients = worst(d for name, d in decided.items() if "running" not in name)
    width = f", width {thinner.width}" if thinner != architecture else ""
    number = f", images {seed + 1}" if seed else ""
    exact = worst(_differences(architecture, "float64", 0).values())
    rows = [
        ("logits, float32", tensors["outputs"], _LOGITS_BOUND),
        (f"gradients, float32{width}{number}", gradients, _GRADIENTS_BOUND),
        ("all of these, float64", exact, _FLOAT64_BOUND),
    ]
    if running:
        rows.insert(2, ("running statistics, float32", worst(running), _LOGITS_BOUND))
    return [Comparison(f"{title}: {what}", value, bound) for what, value, bound in rows]


def _find_decided(architecture: Architecture) -> tuple[Architecture, int]:
    """The architecture, or a thinner one, and the seed of the first images that float32 decides."""
    network = architecture.torch_network(drawn=True)
    tries = _TRIES_TIMES_WIDTH // architecture.width
    for seed in range(tries):
        images = architecture.images(_BATCH, "float32", seed)
        if all(_is_decided(network.train(train), images) for train in (True, False)):
            return architecture, seed
    if architecture.width <= _LEAST_WIDTH:
        raise CheckFailed(f"{architecture.title}: float32 decides none of {tries} inputs")
    return _find_decided(replace(architecture, width=architecture.width // 2))


def _is_decided(network: TorchResNet, images: np.ndarray) -> bool:
    """Whether rounding leaves every rectifier of PyTorch's network well on its side of zero."""
    x = torch.from_numpy(layers.channels_first(images))
    rounded, exact = (
        copy.deepcopy(network).to(dtype).relu_inputs(x.to(dtype))
        for dtype in (torch.float32, torch.float64)
    )
    return all(
        bool(right.abs().min() > _MARGIN * (wrong - right).square().mean().sqrt())
        for wrong, right in zip(rounded, exact, strict=True)
    )


def _compare_initial(architecture: Architecture, batch: int) -> list[Comparison]:
    """Gradients in training mode with PyTorch's own initial weights, held to float64."""
    images = architecture.images(batch, "float32")
    here, pytorch = _run_both(architecture, images, drawn=False, train=True)
    exact = run_torch(architecture.torch_network(drawn=False), images.astype(np.float64))
    pairs = (here, exact), (pytorch, exact), (here, pytorch)
    distance, usual, between = (worst(differences(*pair).values()) for pair in pairs)
    what = (
        f"{architecture.title}, PyTorch's initial weights, {batch} images: distance to float64, "
        f"{distance:.1e}, over PyTorch's, {usual:.1e} ({between:.1e} apart)"
    )
    return [Comparison(what, distance / usual, _DISTANCE_BOUND)]


def _cases(size: Size, _: Dataset) -> Cases:
    chosen = [replace(a, width=size.width) for a in ARCHITECTURES if a.name in size.networks]
    initial = [
        (Architecture(name, width=size.width), batch * max(1, 64 // size.width))
        for name, batch in _DISTANCE_BATCHES.items()
        if name in size.networks
    ]
    return {
        **{a.title: partial(_compare, a) for a in chosen},
        **{f"{a.title}, initial": partial(_compare_initial, a, batch) for a, batch in initial},
    }


PART = Part(
    _cases,
    note="The largest difference over the largest magnitude, of the worst tensor; evaluation and "
    "training mode, two random images. A rectifier whose input is within rounding of zero moves "
    "float32 gradients by a thousandth, whoever computes them; so those are compared on the first "
    f"images that keep every rectifier's input further from zero than {_MARGIN} times PyTorch's "
    "own rounding error there (their number is given if they are not the first), and on a thinner "
    "network where a wide one has no such images. In float64 no input is in doubt. With PyTorch's "
    "initial weights no images are that clear: there both sides' float32 is held to float64, and "
    "two results in float32 may differ by the sum of their distances to it.",
)
