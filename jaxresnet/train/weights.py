"""Weights in files: PyTorch's .pth, .safetensors, and this project's own directories.

A directory is one step of a checkpoint, or what write_weights makes, which is laid out alike; a
run's directory stands for the newest checkpoint in it. Whatever the file, its tensors are handed
on by PyTorch's names, so that there is one way into a model.
"""

import hashlib
import re
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import jax
import numpy as np
import safetensors.numpy
from flax import nnx

from jaxresnet.errors import UserError
from jaxresnet.models.resnet import ModelOptions, create_model, describe_norm
from jaxresnet.models.torch_names import (
    Tensors,
    Weights,
    from_torch,
    infer_model,
    to_torch,
    weights_of,
)
from jaxresnet.options import Option, flag, options_of
from jaxresnet.train.checkpoint import find_checkpoint, restore_weights, save_weights

_TORCH_SUFFIXES = (".pth", ".pt")
_TORCH_ARCHIVE = ".pth.tar"  # what PyTorch's ImageNet example writes, no tar archive
_SAFETENSORS_SUFFIX = ".safetensors"
_ACCEPTED = "a .safetensors file, a .pth or .pt file (with PyTorch), or a directory of weights"
# Training scripts keep the state dict under one of these; the first is pytorch-cifar's.
_WRAPPERS = ("net", "state_dict", "model_state_dict", "model")
# What DataParallel and torch.compile put before every name, one within the other.
_PREFIXES = re.compile(r"^((module|_orig_mod)\.)+")
_NEEDS_TORCH = (
    "{} needs PyTorch, which is not installed: install torch, or use a .safetensors file instead"
)


def read_tensors(path: Path) -> dict[str, np.ndarray]:
    """All tensors of a weight file or directory, by PyTorch's names; UserError if none."""
    path = path.expanduser().resolve()
    if path.is_dir():
        return to_torch(restore_weights(find_checkpoint(path)))
    if not path.exists():
        raise UserError(f"{path} does not exist; it should be {_ACCEPTED}")
    if path.suffix in _TORCH_SUFFIXES or path.name.endswith(_TORCH_ARCHIVE):
        tensors = _read_torch(path)
    elif path.suffix == _SAFETENSORS_SUFFIX:
        try:
            tensors = safetensors.numpy.load_file(path)
        except (safetensors.SafetensorError, OSError, KeyError) as error:
            raise UserError(f"{path} cannot be read as a .safetensors file: {error}") from error
    else:
        raise UserError(f"{path} is no weight file; it should be {_ACCEPTED}")
    return {_PREFIXES.sub("", name): tensor for name, tensor in tensors.items()}


def _read_torch(path: Path) -> dict[str, np.ndarray]:
    try:
        import torch
    except ImportError as error:
        raise UserError(_NEEDS_TORCH.format(f"reading {path}")) from error
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a file that is no state dict can fail in any way
        raise UserError(
            f"{path} cannot be read as a PyTorch state dict: it is damaged, or holds Python "
            "objects besides tensors, which could run code; save model.state_dict() alone, with "
            "torch.save"
        ) from error
    for wrapper in _WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
    if not isinstance(content, Mapping) or not all(
        isinstance(name, str) and torch.is_tensor(tensor) for name, tensor in content.items()
    ):
        raise UserError(
            f"{path} holds no state dict: it should be what torch.save(model.state_dict(), ...) "
            f"writes, by itself or under {', '.join(map(repr, _WRAPPERS))}"
        )
    halves = (torch.bfloat16, torch.float16)  # NumPy has no bfloat16; float32 holds both exactly
    tensors = {n: t.float() if t.dtype in halves else t for n, t in content.items()}
    try:
        return {name: tensor.detach().numpy() for name, tensor in tensors.items()}
    except TypeError as error:
        raise UserError(f"{path} holds tensors that are not plain arrays: {error}") from error


def load_weights(path: Path, model: ModelOptions, like: Weights) -> Weights:
    """The weights of a file or directory for the model's network, shaped as `like`.

    Raises:
      UserError: they cannot be read or do not fit; the message names the file, and the options to
        change if it holds the weights of another network.
    """
    tensors = read_tensors(path)
    try:
        return from_torch(tensors, like)
    except UserError as error:
        raise UserError(f"{path}: {error}{_changes(tensors, model)}") from error


def _changes(tensors: Tensors, model: ModelOptions) -> str:
    """A line that says which options would make the model theirs; empty if none would."""
    try:
        found = infer_model(tensors)
    except UserError:
        return ""
    found["model"] = found.pop("name")
    given = {option.name: option for option in options_of(model)}
    wanted = [given[name]._replace(value=value) for name, value in found.items() if name in given]
    changes = [_change(option) for option in wanted if option != given[option.name]]
    return f"\nto use these weights, {', '.join(changes)}" if changes else ""


def _change(option: Option) -> str:
    match option.value:
        case True:
            return f"add {option.flag}"
        case False:
            off = flag(f"no_{option.name}")
            return f"leave out {option.flag} (or, where it is the default, add {off})"
        case value:
            return f"set {option.flag} {value}"


def load_model(path: Path) -> tuple[dict[str, Any], Weights]:
    """create_model's arguments, told from the tensors, and the weights; see load_weights."""
    tensors = read_tensors(path)
    try:
        options = infer_model(tensors)
        like = weights_of(create_model(**options, rngs=nnx.Rngs(0)))
        return options, from_torch(tensors, like)
    except UserError as error:
        raise UserError(f"{path}: {error}") from error


def describe_model(options: dict[str, Any], weights: Weights) -> str:
    """A network for people, from what load_model gives."""
    values = sum(leaf.size for leaf in jax.tree.leaves(weights.params))
    bias = ", with convolution bias" if options["conv_bias"] else ""
    return (
        f"{options['name']} of width {options['width']}, {options['stem']} stem, "
        f"{options['num_classes']} classes, {describe_norm(options['norm'])}{bias}, "
        f"{values:,} parameters"
    )


def weights_fingerprint(weights: Weights) -> str:
    """SHA-256 over all tensors in the order of their names, as 64 hex digits."""
    digest = hashlib.sha256()
    for name, tensor in sorted(to_torch(weights._replace(batches=0)).items()):
        digest.update(name.encode())
        digest.update(tensor.data)
    return digest.hexdigest()


def check_destination(path: Path) -> None:
    """Raises UserError if write_weights could not write there: before any long work."""
    path = path.expanduser()
    if path.exists():
        raise UserError(f"{path} exists; choose another name, or delete it first")
    if path.suffix not in ("", _SAFETENSORS_SUFFIX, *_TORCH_SUFFIXES):
        raise UserError(f"{path} has an unknown suffix; it should be {_ACCEPTED}")
    if path.suffix in _TORCH_SUFFIXES and find_spec("torch") is None:
        raise UserError(_NEEDS_TORCH.format(f"writing {path}"))


def write_weights(path: Path, weights: Weights, names: str) -> None:
    """Writes the weights as the path's suffix says; a path without one becomes a directory.

    names: PyTorch's names in files; directories have none. A file is there whole or not at all.
    """
    check_destination(path)
    path = path.expanduser().resolve()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{path} cannot be written ({error.strerror})") from error
    if path.suffix == "":
        save_weights(path, weights)
        return
    tensors = to_torch(weights, names)
    temporary = path.with_name(path.name + ".tmp")
    try:
        if path.suffix == _SAFETENSORS_SUFFIX:
            safetensors.numpy.save_file(tensors, temporary, metadata={"format": "pt"})
        else:
            import torch

            torch.save({n: torch.from_numpy(tensor) for n, tensor in tensors.items()}, temporary)
        temporary.replace(path)
    except Exception as error:  # both libraries have errors of their own for a full disk
        raise OSError(f"{path} cannot be written: {error}") from error
    finally:
        temporary.unlink(missing_ok=True)
