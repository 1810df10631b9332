"""Whole networks with PyTorch's weights: logits, running statistics and every gradient."""

from dataclasses import asdict, dataclass, replace

import jax
import numpy as np
import torch

from experiments.fidelity.comparison import Comparison, relative_difference, worst
from experiments.fidelity.passes import (
    Architecture,
    Outcome,
    Problem,
    as_float64,
    copy_tensors,
    draw_problem,
    load_torch,
    random_torch_network,
    run_here,
    run_torch,
    torch_images,
)
from experiments.pytorch.resnet import TorchResNet
from jaxresnet.errors import CheckFailed

NAMES = ("resnet18", "resnet34", "resnet50", "resnet152")
# All the networks of the experiments: both stems, with and without normalisation and bias.
ARCHITECTURES = tuple(
    Architecture(name, stem, norm, conv_bias)
    for name in NAMES
    for stem in (("cifar", "imagenet") if name == "resnet18" else ("imagenet",))
    for norm in ("batch", "none")
    for conv_bias in (False, True)
)

LOGITS_BOUND, GRADIENTS_BOUND, FLOAT64_BOUND = 1e-4, 1e-3, 1e-8
_BATCH = 2
# A rectifier whose input stands within rounding of zero is on in one computation and off in
# another, which moves gradients by a thousandth and more, whoever computes them. Gradients in
# float32 are therefore compared on the first images that keep every rectifier's input further
# from zero than so many times the rounding error that PyTorch itself makes there. A wide and deep
# network has millions of rectifiers and no such images: it is made thinner until it has.
_MARGIN = 4
_IMAGES_TRIED = 10
_LEAST_WIDTH = 8
# How much further from float64 than PyTorch's own float32 this one may be, where float32 does
# not decide: which rectifiers flip is chance on both sides.
_DISTANCE_BOUND = 3.0


@dataclass(frozen=True)
class Conditioning:
    """How far gradients are apart in training mode: the worst tensor's, over its norm."""

    what: str
    torch_to_float64: float
    here_to_float64: float
    here_to_torch: float

    def compare(self) -> Comparison:
        what = f"{self.what}, PyTorch's initial weights: distance to float64 over PyTorch's"
        return Comparison(what, self.here_to_float64 / self.torch_to_float64, _DISTANCE_BOUND)


def compare_network(architecture: Architecture) -> list[Comparison]:
    """Logits, running statistics and gradients by name, evaluation and training.

    In float32, and all of it in float64, where no rectifier is in doubt.
    """
    words, has_norm = architecture.words, architecture.norm == "batch"
    tensors = copy_tensors(random_torch_network(architecture, seed=0))
    problem = draw_problem(architecture, tensors, _BATCH, seed=0)
    modes = (False, True) if has_norm else (True,)
    pairs = [(run_here(problem, mode, backward=False), run_torch(problem, mode)) for mode in modes]
    logits = worst(relative_difference(here.logits, theirs.logits) for here, theirs in pairs)
    comparisons = [
        Comparison(f"{words}: logits, float32", logits, LOGITS_BOUND),
        _compare_gradients(architecture, modes),
    ]
    if has_norm:
        statistics = worst(_statistics_difference(*pair) for pair in pairs)
        what = f"{words}: running statistics, float32"
        comparisons.append(Comparison(what, statistics, LOGITS_BOUND))
    what = f"{words}: all of these, float64"
    in_float64 = worst(_compare_in_float64(as_float64(problem), mode) for mode in modes)
    return [*comparisons, Comparison(what, in_float64, FLOAT64_BOUND)]


def _compare_gradients(architecture: Architecture, modes: tuple[bool, ...]) -> Comparison:
    problem, tried = _decided_problem(architecture)
    largest = worst(
        _gradient_difference(run_here(problem, mode), run_torch(problem, mode), train=mode)
        for mode in modes
    )
    what = f"{architecture.words}: gradients, float32"
    if problem.architecture.width < architecture.width:
        what += f", width {problem.architecture.width}"
    what += f", images {tried}" if tried > 1 else ""
    return Comparison(what, largest, GRADIENTS_BOUND)


def measure_conditioning(architecture: Architecture, batch: int) -> Conditioning:
    """Gradients with PyTorch's own initial weights, against PyTorch in float64."""
    torch.manual_seed(0)
    tensors = copy_tensors(TorchResNet(**asdict(architecture)))
    problem = draw_problem(architecture, tensors, batch, seed=0)
    exact = run_torch(as_float64(problem), train=True)
    here, theirs = run_here(problem, train=True), run_torch(problem, train=True)
    return Conditioning(
        f"{architecture.words}, {batch} images",
        _gradient_difference(theirs, exact, train=True),
        _gradient_difference(here, exact, train=True),
        _gradient_difference(here, theirs, train=True),
    )


def _decided_problem(architecture: Architecture) -> tuple[Problem, int]:
    """The first problem that float32 decides, and which one it was, counted from 1."""
    tensors = copy_tensors(random_torch_network(architecture, seed=0))
    for seed in range(_IMAGES_TRIED):
        problem = draw_problem(architecture, tensors, _BATCH, seed)
        if all(_is_decided(problem, train) for train in (True, False)):
            return problem, seed + 1
    if architecture.width <= _LEAST_WIDTH:
        raise CheckFailed(f"{architecture.words}: float32 decides none of {_IMAGES_TRIED} inputs")
    return _decided_problem(replace(architecture, width=architecture.width // 2))


def _is_decided(problem: Problem, train: bool) -> bool:
    """Whether rounding leaves every rectifier of PyTorch's network well on its side of zero."""
    rounded, exact = (
        load_torch(variant).train(train).relu_inputs(torch_images(variant))
        for variant in (problem, as_float64(problem))
    )
    return all(
        float(right.abs().min()) > _MARGIN * float((wrong - right).square().mean().sqrt())
        for wrong, right in zip(rounded, exact, strict=True)
    )


def _compare_in_float64(problem: Problem, train: bool) -> float:
    theirs = run_torch(problem, train)
    with jax.enable_x64(True):
        here = run_here(problem, train)
    differences = [
        relative_difference(here.logits, theirs.logits),
        _gradient_difference(here, theirs, train),
    ]
    if problem.architecture.norm == "batch":
        differences.append(_statistics_difference(here, theirs))
    return worst(differences)


def _gradient_difference(found: Outcome, expected: Outcome, train: bool) -> float:
    """The worst tensor's difference over its norm.

    The bias of a convolution before batch norm has no gradient in training, since the mean is
    taken off again: what either side computes is rounding, measured by its kernel's gradient.
    """
    if found.gradients.keys() != expected.gradients.keys():
        raise ValueError("the gradients have other names")
    differences = []
    for name, gradient in expected.gradients.items():
        scale = gradient
        if train and expected.statistics and _is_conv_bias(name):
            scale = expected.gradients[name.replace("bias", "weight")]
        differences.append(np.linalg.norm(found.gradients[name] - gradient) / np.linalg.norm(scale))
    return worst(differences)


def _is_conv_bias(name: str) -> bool:
    owner, _, leaf = name.rpartition(".")
    return leaf == "bias" and (owner.endswith("downsample.0") or "conv" in owner)


def _statistics_difference(found: Outcome, expected: Outcome) -> float:
    return worst(
        relative_difference(found.statistics[name], expected.statistics[name])
        for name in expected.statistics
        if "running" in name
    )
