"""Weights to and from PyTorch, by the names that PyTorch gives them.

The conventions are torchvision's (timm's too), kuangliu/pytorch-cifar's, and that of the talk on
ResNet-152. Kernels are (out, in, height, width) in PyTorch and (height, width, in, out) here;
nothing else differs, so a trip to PyTorch and back is exact to the last bit.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from flax import nnx
from flax.traverse_util import flatten_dict, unflatten_dict

from jaxresnet.errors import UserError
from jaxresnet.models.layers import BatchNorm
from jaxresnet.models.resnet import MODELS, NORMS, STEMS, BasicBlock, Bottleneck, ResNet

Tensors = Mapping[str, np.ndarray]
Path = tuple[Any, ...]  # keys of nested dicts

_MOST_NAMED = 5  # of the tensors that do not fit; a deep network has hundreds


class Convention(NamedTuple):
    """What the conventions call differently."""

    shortcut: str
    classifier: str


CONVENTIONS: dict[str, Convention] = {
    "torchvision": Convention("downsample", "fc"),
    "kuangliu": Convention("shortcut", "linear"),
    "talk": Convention("identity_downsample", "fc"),
}
LEAF_NAMES = {
    "kernel": "weight",
    "scale": "weight",
    "bias": "bias",
    "mean": "running_mean",
    "variance": "running_var",
}
_COUNTER = "num_batches_tracked"
_KINDS = {"conv": "conv", "norm": "bn"}  # the parts of a ConvNorm, in order
_PARTS = ("stem", "stages", "classifier")


class Weights(NamedTuple):
    """All arrays of a network.

    Attributes:
      params: what is trained: nested dicts by attribute name.
      batch_stats: batch norm's running statistics, likewise.
      batches: how many the statistics have seen, the most of any layer's; nothing is computed
        from it.
    """

    params: Any
    batch_stats: Any
    batches: int = 0


def to_torch(weights: Weights, names: str = "torchvision") -> dict[str, np.ndarray]:
    """A state dict's tensors by PyTorch's names, in the dtypes that they have here.

    Takes gradients in place of params too, with empty batch_stats. names: one of CONVENTIONS.
    """
    tensors = {}
    for path, array in _flatten(weights).items():
        name = _torch_name(path, CONVENTIONS[names])
        tensors[name] = np.array(to_torch_axes(np.asarray(array)), order="C")
        if path[-1] == "variance":
            tensors[_counter(name)] = np.array(weights.batches, np.int64)
    return tensors


def from_torch(tensors: Tensors, like: Weights) -> Weights:
    """The weights of a network shaped as `like`, in float32, from a state dict's tensors.

    The convention is told from the names; float16 and bfloat16 are widened.

    Raises:
      UserError: tensors are missing, unexpected, of another shape, or of a dtype that float32
        cannot hold; they are counted, and the first of each kind named as in PyTorch.
    """
    arrays, convention = _flatten(like), _find_convention(tensors)
    names = {path: _torch_name(path, convention) for path in arrays}
    counters = {_counter(names[path]) for path in arrays if path[-1] == "variance"} & set(tensors)
    shapes = {names[path]: to_torch_axes(array).shape for path, array in arrays.items()}
    _check_match({name: t for name, t in tensors.items() if name not in counters}, shapes)

    def load(tree: dict[str, Any]) -> dict[Any, Any]:
        loaded = {path: from_torch_axes(tensors[names[path]]) for path in flatten_dict(tree)}
        return unflatten_dict({p: np.array(a, np.float32, order="C") for p, a in loaded.items()})

    batches = max((int(tensors[name]) for name in counters), default=0)
    return Weights(load(like.params), load(like.batch_stats), batches)


def infer_model(tensors: Tensors) -> dict[str, Any]:
    """create_model's arguments for the network that a state dict belongs to.

    Raises:
      UserError: the names are not those of a ResNet of this project.
    """
    convention = _find_convention(tensors)
    blocks = set(re.findall(r"^layer(\d+)\.(\d+)\.", "\n".join(tensors), re.MULTILINE))
    stages = Counter(int(stage) for stage, _ in blocks)
    counts = tuple(stages[stage] for stage in sorted(stages))
    block = Bottleneck if any(".conv3." in name for name in tensors) else BasicBlock
    models = [name for name, entry in MODELS.items() if entry == (block, counts)]
    if not models:
        ends = dict.fromkeys(f"{own.classifier}.weight" for own in CONVENTIONS.values())
        raise UserError(
            "the tensors are not those of a ResNet of this project: it takes conv1.weight, "
            f"layer1.0.conv1.weight and so on, {' or '.join(ends)}, with the blocks of "
            f"{', '.join(MODELS)}; these have {counts or 'no'} blocks: "
            f"{_first(list(tensors)) or 'no tensors'}"
        )
    axes = {"conv1.weight": 4, f"{convention.classifier}.weight": 2}
    both = {name: tensors[name] for name in axes if name in tensors}
    missing = [name for name in axes if name not in both]
    misshapen = [f"{name} {t.shape}" for name, t in both.items() if t.ndim != axes[name]]
    _raise_misfits({"missing": missing, "of another shape": misshapen})
    stem, classifier = both.values()
    return {
        "name": models[0],
        "num_classes": classifier.shape[0],
        "stem": _find_stem(stem.shape[-1]),
        "norm": _find_norm(tensors),
        "conv_bias": any(re.search(r"conv\d\.bias$", name) for name in tensors),
        "width": stem.shape[0],
    }


def _find_stem(kernel_size: int) -> str:
    names = [name for name, stem in STEMS.items() if stem.kernel_size == kernel_size]
    if len(names) != 1:
        sizes = ", ".join(f"{name} {stem.kernel_size}" for name, stem in STEMS.items())
        raise UserError(
            f"conv1.weight's kernels of size {kernel_size} are those of "
            f"{' and '.join(names) or 'no stem'}: the stems' sizes are {sizes}"
        )
    return names[0]


def _find_norm(tensors: Tensors) -> str:
    """The norm that has the arrays which the tensors have after convolutions."""
    found = {name.rpartition(".")[2] for name in tensors if re.search(r"\bbn\d\.", name)}
    leaves = {name: _norm_leaves(norm) for name, norm in NORMS.items()}
    names = [name for name, own in leaves.items() if own == found - {_COUNTER}]
    if len(names) != 1:
        known = (f"{name} ({', '.join(sorted(own)) or 'nothing'})" for name, own in leaves.items())
        raise UserError(
            f"the normalisation's arrays, {', '.join(sorted(found))}, are those of "
            f"{' and '.join(names) or 'no norm'}: the norms have {', '.join(known)}"
        )
    return names[0]


def _norm_leaves(norm: type[BatchNorm] | None) -> set[str]:
    """What PyTorch calls the arrays of a norm."""
    arrays = () if norm is None else nnx.to_pure_dict(nnx.state(norm(1)))
    return {LEAF_NAMES[name] for name in arrays}


def weights_of(model: ResNet) -> Weights:
    """The weights that a model holds."""
    _, params, batch_stats = nnx.split(model, nnx.Param, nnx.BatchStat)
    return Weights(nnx.to_pure_dict(params), nnx.to_pure_dict(batch_stats))


def _find_convention(tensors: Tensors) -> Convention:
    """The one most of whose own names there are; the first if there are none."""
    parts = [part for name in tensors for part in name.split(".")]
    return max(CONVENTIONS.values(), key=lambda own: sum(part in own for part in parts))


def _flatten(weights: Weights) -> dict[Path, Any]:
    """The arrays by path, in the order in which PyTorch lists them."""
    arrays = flatten_dict(weights.params) | flatten_dict(weights.batch_stats)

    def position(path: Path) -> Path:
        return (_PARTS.index(path[0]), *path[1:-1], list(LEAF_NAMES).index(path[-1]))

    return {path: arrays[path] for path in sorted(arrays, key=position)}


def _counter(variance: str) -> str:
    """PyTorch's batch norm counts its batches beside its statistics, in each layer."""
    return variance.replace(LEAF_NAMES["variance"], _COUNTER)


def _torch_name(path: Path, convention: Convention) -> str:
    """("stages", 0, 1, "conv2", "norm", "scale") -> "layer1.1.bn2.weight"."""
    *module, leaf = path
    match module:
        case ["classifier"]:
            owner = convention.classifier
        case ["stem", kind]:
            owner = f"{_KINDS[kind]}1"
        case ["stages", stage, block, "shortcut", kind]:
            owner = f"layer{stage + 1}.{block}.{convention.shortcut}.{list(_KINDS).index(kind)}"
        case ["stages", stage, block, conv, kind]:
            owner = f"layer{stage + 1}.{block}.{conv.replace('conv', _KINDS[kind])}"
        case _:
            raise ValueError(f"{path} is no part of a ResNet")
    return f"{owner}.{LEAF_NAMES[leaf]}"


def to_torch_axes(array: np.ndarray) -> np.ndarray:
    """A parameter with its axes in PyTorch's order."""
    return array.transpose(3, 2, 0, 1) if array.ndim == 4 else array.T


def from_torch_axes(tensor: np.ndarray) -> np.ndarray:
    """A PyTorch parameter with its axes in this project's order."""
    return tensor.transpose(2, 3, 1, 0) if tensor.ndim == 4 else tensor.T


def _check_match(tensors: Tensors, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Raises UserError with all that does not fit: how many tensors, and the first of them."""
    both = [(name, tensors[name], shape) for name, shape in shapes.items() if name in tensors]
    misfits = {
        "missing": [name for name in shapes if name not in tensors],
        "unexpected": [name for name in tensors if name not in shapes],
        "of another shape": [f"{n} {t.shape} instead of {s}" for n, t, s in both if t.shape != s],
        "of a dtype that float32 cannot hold (convert them first, model.float() in PyTorch)": [
            f"{n} {t.dtype}" for n, t, _ in both if not np.can_cast(t.dtype, np.float32)
        ],
        # XLA's fused kernels on a CPU may drop a NaN, and the network would seem to work.
        "with values that are not finite": [
            n for n, t, _ in both if not np.isfinite(t.astype(np.float32)).all()
        ],
    }
    _raise_misfits(misfits)


def _first(names: Sequence[str]) -> str:
    rest = len(names) - _MOST_NAMED
    return ", ".join(names[:_MOST_NAMED]) + (f", and {rest} more" if rest > 0 else "")


def _raise_misfits(misfits: Mapping[str, list[str]]) -> None:
    """Raises UserError if there are any."""
    lines = [f"\n  {len(bad)} {kind}: {_first(bad)}" for kind, bad in misfits.items() if bad]
    if lines:
        raise UserError(f"the weights do not fit the model:{''.join(lines)}")
