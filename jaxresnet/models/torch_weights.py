"""Weights to and from PyTorch: the one place that knows PyTorch's names.

Two conventions are spoken: torchvision's (also timm's), and kuangliu/pytorch-cifar's, which
calls the projection `shortcut` and the classifier `linear`. Kernels are (out, in, height, width)
in PyTorch and (height, width, in, out) here; nothing else differs, so a trip to PyTorch and back
is exact to the last bit.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import jax
import numpy as np
from flax import nnx

from jaxresnet.errors import UserError
from jaxresnet.models.resnet import MODELS, ResNet, find_architecture

Names = Literal["torchvision", "kuangliu"]
Tensors = Mapping[str, np.ndarray]

_MOST_NAMED = 5  # of the tensors that do not fit; a deep network has hundreds


@dataclass(frozen=True)
class _Convention:
    shortcut: str
    classifier: str


_CONVENTIONS: dict[Names, _Convention] = {
    "torchvision": _Convention("downsample", "fc"),
    "kuangliu": _Convention("shortcut", "linear"),
}
LEAF_NAMES = {
    "kernel": "weight",
    "scale": "weight",
    "bias": "bias",
    "mean": "running_mean",
    "variance": "running_var",
}
_PARTS = ("stem", "stages", "classifier")
# PyTorch's batch norm counts its batches beside its statistics, in each layer.
_COUNTER = "num_batches_tracked"


class Weights(NamedTuple):
    """All arrays of a network: what is trained, and batch norm's running statistics.

    params, batch_stats: nested dicts, as split_model gives them. batches: how many batches the
    statistics have seen, the most of any layer's; nothing is computed from it.
    """

    params: Any
    batch_stats: Any
    batches: int = 0


def to_torch(weights: Weights, names: Names = "torchvision") -> dict[str, np.ndarray]:
    """A state dict's tensors by PyTorch's names, in the dtypes that they have here.

    Takes gradients in place of params too, with empty batch_stats.
    """
    convention, tensors = _CONVENTIONS[names], {}
    for path, array in _leaves(weights):
        name = _torch_name(path, convention)
        tensors[name] = np.array(to_torch_axes(np.asarray(array)), order="C")
        if path[-1] == "variance":
            owner = name.rpartition(".")[0]
            tensors[f"{owner}.{_COUNTER}"] = np.array(weights.batches, np.int64)
    return tensors


def from_torch(tensors: Tensors, like: Weights) -> Weights:
    """The weights of a network shaped as `like`, in float32, from a state dict's tensors.

    The convention is told from the names; float16 and bfloat16 are widened.

    Raises:
      UserError: tensors are missing, unexpected, of another shape, or of a dtype that float32
        cannot hold; they are counted, and the first of each kind named as in PyTorch.
    """
    convention = _CONVENTIONS[_find_names(tensors)]
    expected = {
        _torch_name(path, convention): to_torch_axes(array).shape for path, array in _leaves(like)
    }
    statistics = [name for name in expected if name.endswith(LEAF_NAMES["variance"])]
    counters = {f"{name.rpartition('.')[0]}.{_COUNTER}" for name in statistics} & set(tensors)
    _check_match({n: t for n, t in tensors.items() if n not in counters}, expected)

    def load(path: tuple[Any, ...], _: Any) -> np.ndarray:
        tensor = tensors[_torch_name(_keys(path), convention)]
        return np.array(from_torch_axes(tensor), np.float32, order="C")

    params, batch_stats = (
        jax.tree.map_with_path(load, tree) for tree in (like.params, like.batch_stats)
    )
    return Weights(params, batch_stats, int(max((tensors[name] for name in counters), default=0)))


def infer_model(tensors: Tensors) -> dict[str, Any]:
    """create_model's arguments for the network that a state dict belongs to.

    Raises:
      UserError: the names are not those of a ResNet of this project.
    """
    convention = _CONVENTIONS[_find_names(tensors)]
    blocks = {tuple(name.split(".")[:2]) for name in tensors}  # ("layer1", "0") and others
    counts = tuple(sum(stage == f"layer{s}" for stage, *_ in blocks) for s in range(1, 5))
    bottleneck = any(".conv3." in name for name in tensors)
    name = find_architecture(bottleneck, counts)
    if name is None:
        raise UserError(
            "the tensors are not those of a ResNet of this project: it takes conv1.weight, "
            "layer1.0.conv1.weight and so on, fc.weight (torchvision's names) or linear.weight "
            f"(kuangliu/pytorch-cifar's), with the blocks of {', '.join(MODELS)}; these have "
            f"{counts} blocks: {_first(list(tensors)) or 'no tensors'}"
        )
    ends = {"conv1.weight": 4, f"{convention.classifier}.weight": 2}
    missing = [end for end in ends if end not in tensors]
    flat = [end for end, ndim in ends.items() if end in tensors and tensors[end].ndim != ndim]
    if missing or flat:
        _raise_misfit(
            {
                "missing": missing,
                "of another shape": [f"{end} {tensors[end].shape}" for end in flat],
            }
        )
    stem, classifier = (tensors[end] for end in ends)
    return {
        "name": name,
        "num_classes": classifier.shape[0],
        "stem": "imagenet" if stem.shape[-1] == 7 else "cifar",
        "norm": "batch" if any(name.endswith("running_mean") for name in tensors) else "none",
        "conv_bias": any(re.search(r"conv\d\.bias$", name) for name in tensors),
        "width": stem.shape[0],
    }


def weights_of(model: ResNet) -> Weights:
    """The weights that a model holds."""
    _, params, batch_stats = nnx.split(model, nnx.Param, nnx.BatchStat)
    return Weights(nnx.to_pure_dict(params), nnx.to_pure_dict(batch_stats))


def _find_names(tensors: Tensors) -> Names:
    kuangliu = any(name.startswith("linear.") or ".shortcut." in name for name in tensors)
    return "kuangliu" if kuangliu else "torchvision"


def _leaves(weights: Weights) -> list[tuple[tuple[Any, ...], Any]]:
    """Paths and arrays in the order in which PyTorch lists them."""
    leaves = jax.tree.leaves_with_path((weights.params, weights.batch_stats))

    def place(path: tuple[Any, ...]) -> tuple[Any, ...]:
        return (_PARTS.index(path[0]), *path[1:-1], list(LEAF_NAMES).index(path[-1]))

    return sorted(
        ((_keys(path)[1:], leaf) for path, leaf in leaves), key=lambda pair: place(pair[0])
    )


def _keys(path: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(getattr(key, "key", getattr(key, "idx", None)) for key in path)


def _torch_name(path: tuple[Any, ...], convention: _Convention) -> str:
    """("stages", 0, 1, "conv2", "norm", "scale") -> "layer1.1.bn2.weight"."""
    *module, leaf = path
    match module:
        case ["classifier"]:
            owner = convention.classifier
        case ["stem", kind]:
            owner = "conv1" if kind == "conv" else "bn1"
        case ["stages", stage, block, "shortcut", kind]:
            place = 0 if kind == "conv" else 1
            owner = f"layer{int(stage) + 1}.{block}.{convention.shortcut}.{place}"
        case ["stages", stage, block, conv, kind]:
            number = conv.removeprefix("conv")
            owner = f"layer{int(stage) + 1}.{block}.{'conv' if kind == 'conv' else 'bn'}{number}"
        case _:
            raise ValueError(f"{path} is no part of a ResNet")
    return f"{owner}.{LEAF_NAMES[leaf]}"


def to_torch_axes(array: np.ndarray) -> np.ndarray:
    """A parameter with its axes in PyTorch's order."""
    return array.transpose(3, 2, 0, 1) if array.ndim == 4 else array.T


def from_torch_axes(tensor: np.ndarray) -> np.ndarray:
    """A PyTorch parameter with its axes in this project's order."""
    return tensor.transpose(2, 3, 1, 0) if tensor.ndim == 4 else tensor.T


def _check_match(found: Tensors, expected: Mapping[str, tuple[int, ...]]) -> None:
    """Raises UserError with all that does not fit: how many tensors, and the first of them."""
    both = [name for name in expected if name in found]
    problems = {
        "missing": [name for name in expected if name not in found],
        "unexpected": [name for name in found if name not in expected],
        "of another shape": [
            f"{name} {found[name].shape} instead of {expected[name]}"
            for name in both
            if found[name].shape != expected[name]
        ],
        "of a dtype that float32 cannot hold (convert them first, model.float() in PyTorch)": [
            f"{name} {found[name].dtype}"
            for name in both
            if not np.can_cast(found[name].dtype, np.float32)
        ],
        # XLA's fused kernels on a CPU may drop a NaN, and the network would seem to work.
        "with values that are not finite": [
            name for name in both if not np.isfinite(found[name].astype(np.float32)).all()
        ],
    }
    if any(problems.values()):
        _raise_misfit(problems)


def _first(names: Sequence[str]) -> str:
    rest = len(names) - _MOST_NAMED
    return ", ".join(names[:_MOST_NAMED]) + (f", and {rest} more" if rest > 0 else "")


def _raise_misfit(problems: Mapping[str, list[str]]) -> None:
    lines = [
        f"  {len(names)} {title}: {_first(names)}" for title, names in problems.items() if names
    ]
    raise UserError("the weights do not fit the model:\n" + "\n".join(lines))
