"""Initial weights: each tensor drawn from the distribution that PyTorch draws it from."""

import math

import numpy as np
import torch
from flax import nnx

from experiments.fidelity.comparison import Comparison, worst
from experiments.pytorch.resnet import TorchResNet, numpy_tensors
from jaxresnet.models.resnet import create_model
from jaxresnet.models.torch_weights import to_torch, weights_of

# Of some sixty tensors the largest deviation exceeds these once in about 2,000 draws.
_STANDARD_ERRORS = 4.5
_KOLMOGOROV_SMIRNOV = 2.4
_UNIFORM_KURTOSIS = 1.8


def compare_initialisation() -> list[Comparison]:
    """ResNet-18 with biases everywhere, drawn here and by PyTorch."""
    torch.manual_seed(0)
    theirs = numpy_tensors(TorchResNet("resnet18", conv_bias=True))
    ours = to_torch(weights_of(create_model("resnet18", conv_bias=True, rngs=nnx.Rngs(0))))
    drawn = {name: _fan_in(name, theirs) for name in theirs if theirs[name].std() > 0}
    constant = [name for name in theirs if name not in drawn]
    comparisons = []
    for side, tensors in (("here", ours), ("in PyTorch", theirs)):
        bounds = [np.abs(tensors[n]).max() * math.sqrt(fan_in) for n, fan_in in drawn.items()]
        errors = [_variance_error(tensors[n], fan_in) for n, fan_in in drawn.items()]
        comparisons += [
            Comparison(
                f"largest absolute value times sqrt(fan in), {side}", worst(bounds), 1 + 1e-6
            ),
            Comparison(
                f"variance against 1 / (3 fan in), in standard errors, {side}",
                worst(errors),
                _STANDARD_ERRORS,
            ),
        ]
    distances = [_kolmogorov_smirnov(ours[name], theirs[name]) for name in drawn]
    differing = sum(not np.array_equal(ours[name], theirs[name]) for name in constant)
    return [
        *comparisons,
        Comparison(
            "Kolmogorov-Smirnov distance of any tensor's values, scaled by their number",
            worst(distances),
            _KOLMOGOROV_SMIRNOV,
        ),
        Comparison("batch norm's arrays that are not as in PyTorch", differing, 0),
    ]


def _fan_in(name: str, tensors: dict[str, np.ndarray]) -> int:
    """How many values one output is made of; a bias has its kernel's."""
    kernel = tensors[name.replace("bias", "weight")]
    return math.prod(kernel.shape[1:])


def _variance_error(values: np.ndarray, fan_in: int) -> float:
    """How far the mean square is from 1 / (3 fan_in), in standard errors."""
    mean_square = np.square(values.astype(np.float64)).mean()
    standard_error = math.sqrt((_UNIFORM_KURTOSIS - 1) / values.size)
    return abs(mean_square * 3 * fan_in - 1) / standard_error


def _kolmogorov_smirnov(first: np.ndarray, second: np.ndarray) -> float:
    """The two-sample statistic times sqrt(n / 2): above 2.4 with probability 2e-5."""
    first, second = np.sort(first.ravel()), np.sort(second.ravel())
    points = np.concatenate([first, second])
    shares = [np.searchsorted(s, points, side="right") / s.size for s in (first, second)]
    return float(np.abs(shares[0] - shares[1]).max() * math.sqrt(first.size / 2))
