"""Initial weights: each tensor drawn from the distribution that PyTorch draws it from."""

import math
from functools import partial

import numpy as np
import torch
from flax import nnx
from scipy.stats import ks_1samp, ks_2samp, uniform

from experiments.checks.fidelity.parts import Cases, Comparison, Part, Size, compare_p, worst
from experiments.pytorch.resnet import create_torch_model, numpy_tensors
from jaxresnet.data.dataset import Dataset
from jaxresnet.models.resnet import create_model
from jaxresnet.models.torch_names import to_torch, weights_of


def _compare(width: int) -> list[Comparison]:
    """ResNet-18 with biases everywhere, drawn here and by PyTorch."""
    torch.manual_seed(0)
    pytorch = numpy_tensors(create_torch_model("resnet18", width=width, conv_bias=True))
    model = create_model("resnet18", width=width, conv_bias=True, rngs=nnx.Rngs(0))
    here = to_torch(weights_of(model))
    drawn = [name for name, tensor in pytorch.items() if tensor.std() > 0]
    # The values of one output's weights; a bias has its kernel's. Times its root, all are uniform
    # from -1 to 1.
    fan_in = {name: pytorch[name.replace("bias", "weight")][0].size for name in drawn}
    comparisons, scaled = [], {}
    for side, tensors in {"here": here, "in PyTorch": pytorch}.items():
        draws = scaled[side] = [math.sqrt(fan_in[name]) * tensors[name].ravel() for name in drawn]
        largest = worst(np.abs(values).max() for values in draws)
        tests = [ks_1samp(values, uniform(-1, 2).cdf) for values in draws]
        comparisons += [
            Comparison(f"largest absolute value times sqrt(fan in), {side}", largest, 1 + 1e-6),
            compare_p(f"Kolmogorov-Smirnov against uniform, the worst tensor's, {side}", *tests),
        ]
    between = [ks_2samp(*pair) for pair in zip(*scaled.values(), strict=True)]
    differing = sum(
        not np.array_equal(here[name], pytorch[name]) for name in pytorch if name not in drawn
    )
    return [
        *comparisons,
        compare_p("Kolmogorov-Smirnov between the two, the worst tensor's", *between),
        Comparison("batch norm's arrays that are not as in PyTorch", differing, 0),
    ]


def _cases(size: Size, _: Dataset) -> Cases:
    return {"resnet18": partial(_compare, size.width)}


PART = Part(_cases)
