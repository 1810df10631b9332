"""Checkpoints that survive a kill, a power cut and a damaged disk.

Orbax writes each step to a temporary directory and renames it. It does not notice a flipped bit, so
the SHA-256 of every file is kept beside them and checked before use. Nothing that may be someone's
weights is ever deleted: a damaged or unfinished step is moved aside, and a complete one that has
lost its digests is used, with a warning.
"""

import hashlib
import json
import logging
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from jaxresnet.errors import UserError
from jaxresnet.models.torch_names import Weights
from jaxresnet.options import unpublished
from jaxresnet.train.log import write_json
from jaxresnet.train.state import Arrays, TrainState

logging.getLogger("absl").setLevel(logging.ERROR)  # Orbax reports each of its steps there

_DIGESTS = "sha256.json"
_DAMAGED, _UNFINISHED = _ASIDE = ("damaged", "unfinished")  # directories of moved steps
_ORBAX_METADATA = "_CHECKPOINT_METADATA"
_WEIGHTS = ("params", "batch_stats")  # items of a step, evaluated unless averages are kept beside
_AVERAGES = tuple(f"average_{name}" for name in _WEIGHTS)


@dataclass(frozen=True)
class CheckpointOptions:
    """When the state is saved."""

    checkpoint_every: int = unpublished(200, affects="nothing", at_least=1)
    """Steps between checkpoints; the end of each epoch is always saved."""


class Checkpoints:
    """The checkpoints of one training, one directory per step."""

    def __init__(self, directory: Path, options: CheckpointOptions = CheckpointOptions()):
        self._directory = directory.absolute()
        self._directory.mkdir(parents=True, exist_ok=True)
        self._every = options.checkpoint_every
        for step in [path for path in self._directory.iterdir() if path.name.isdigit()]:
            complete = _is_complete(step)
            if complete and not _is_damaged(step):
                continue
            reason = _DAMAGED if complete else _UNFINISHED
            aside = self._directory / reason
            aside.mkdir(exist_ok=True)
            earlier = sum(path.name.partition("-")[0] == step.name for path in aside.iterdir())
            moved = step.rename(aside / (f"{step.name}-{earlier}" if earlier else step.name))
            warnings.warn(
                f"checkpoint {step} is {reason}: moved to {moved}, and the one before it is used",
                stacklevel=2,
            )
        # The newest two: one to fall back on.
        manager_options = ocp.CheckpointManagerOptions(
            max_to_keep=2, enable_async_checkpointing=False, cleanup_tmp_directories=True
        )
        self._manager = ocp.CheckpointManager(self._directory, options=manager_options)

    def is_due(self, step: int) -> bool:
        """Whether to save after that many steps, within an epoch."""
        return step % self._every == 0

    def latest_step(self) -> int | None:
        """The newest whole step, None if nothing was saved; UserError if all are damaged."""
        step = self._manager.latest_step()
        damaged = self._directory / _DAMAGED
        if step is None and damaged.exists():
            raise UserError(
                f"every checkpoint in {self._directory} is damaged (they were moved to "
                f"{damaged}); start anew with --fresh"
            )
        return step

    def save(self, state: TrainState) -> None:
        """Writes the state under its step; returns when it is on the disk."""
        step = int(jax.device_get(state.step))
        if step in self._manager.all_steps():
            return
        self._manager.save(step, args=_save_args(step, *state[1:]))
        self._manager.wait_until_finished()
        directory = self._directory / str(step)
        if not directory.is_dir():
            raise OSError(f"the checkpoint of step {step} was not written to {self._directory}")
        write_json(directory / _DIGESTS, _digests(directory))

    def restore(self, step: int, like: TrainState) -> TrainState:
        """The state saved under `step`, with the structure of `like`."""
        _, *trees = jax.tree.map(ocp.utils.to_shape_dtype_struct, like)
        items = _items(*trees)
        args = {name: ocp.args.StandardRestore(tree) for name, tree in items.items()}
        saved = self._manager.restore(
            step, args=ocp.args.Composite(position=ocp.args.JsonRestore(), **args)
        )

        def tree(name: str, like: Arrays) -> Arrays:
            return saved[name] if name in items else like  # an empty one

        leaves = [saved["opt_state"][path] for path in items.get("opt_state", ())]
        params, batch_stats = map(tree, _WEIGHTS, (like.params, like.batch_stats))
        average = tuple(map(tree, _AVERAGES, like.average)) if like.average else None
        return TrainState(
            step=jax.device_put(np.asarray(saved["position"]["step"], like.step.dtype)),
            params=params,
            batch_stats=batch_stats,
            opt_state=jax.tree.unflatten(jax.tree.structure(like.opt_state), leaves),
            average=average,
        )

    def close(self) -> None:
        self._manager.close()


def save_weights(directory: Path, weights: Weights) -> None:
    """Writes weights as a checkpoint has them, without an optimizer's state."""
    args = _save_args(weights.batches, weights.params, weights.batch_stats)
    with ocp.Checkpointer(ocp.CompositeCheckpointHandler()) as checkpointer:
        checkpointer.save(directory.absolute(), args)
    write_json(directory / _DIGESTS, _digests(directory))


def _save_args(step: int, *trees: Arrays) -> ocp.args.Composite:
    args = {name: ocp.args.StandardSave(tree) for name, tree in _items(*trees).items()}
    return ocp.args.Composite(position=ocp.args.JsonSave({"step": step}), **args)


def _items(
    params: Arrays, batch_stats: Arrays, opt_state: Any = (), average: Any = None
) -> dict[str, Any]:
    """What a checkpoint keeps, each an item that can be loaded alone; Orbax refuses empty ones.

    The optimizer's state goes by path: Orbax keeps dicts as they are, not Optax's named tuples.
    """
    paths = jax.tree.leaves_with_path(opt_state)
    leaves = {jax.tree_util.keystr(path): leaf for path, leaf in paths}
    items = {"params": params, "batch_stats": batch_stats, "opt_state": leaves}
    items |= zip(_AVERAGES, average or (), strict=False)
    return {name: tree for name, tree in items.items() if jax.tree.leaves(tree)}


def restore_weights(step: Path) -> Weights:
    """The weights in a step's directory, averaged where an average was kept, as NumPy arrays."""

    def number_keys(tree: Any) -> Any:  # Orbax writes the numbers of stages and blocks as text
        if not isinstance(tree, dict):
            return tree
        return {int(key) if key.isdigit() else key: number_keys(tree[key]) for key in tree}

    names = _AVERAGES if (step / _AVERAGES[0]).is_dir() else _WEIGHTS
    trees = {"params": {}, "batch_stats": {}}
    with ocp.PyTreeCheckpointer() as checkpointer:
        for kind, name in zip(trees, names, strict=True):
            path = (step / name).absolute()
            if path.is_dir():
                shapes = checkpointer.metadata(path).item_metadata.tree
                numpy = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), shapes)
                trees[kind] = number_keys(checkpointer.restore(path, restore_args=numpy))
    position = json.loads((step / "position" / "metadata").read_text(encoding="utf-8"))
    return Weights(**trees, batches=position["step"])


def find_checkpoint(directory: Path) -> Path:
    """The step directory that a path stands for: itself, or the newest step below it.

    Raises:
      UserError: there is none, it is damaged, or several trainings have one.
    """
    if (directory / "params").is_dir():
        newest = {directory.parent: directory}
    else:
        steps = [path.parent for path in directory.rglob(_ORBAX_METADATA)]
        steps = [s for s in steps if s.name.isdigit() and s.parent.name not in _ASIDE]
        steps = sorted(filter(_is_complete, steps), key=lambda step: int(step.name))
        newest = {step.parent: step for step in steps}
    if not newest:
        raise UserError(f"{directory} holds no weights: there is no checkpoint in it")
    if len(newest) > 1:
        names = ", ".join(str(training) for training in sorted(newest))
        raise UserError(f"{directory} holds the weights of several trainings; name one: {names}")
    (step,) = newest.values()
    if _is_damaged(step):
        raise UserError(
            f"the weights in {step} are damaged: their SHA-256 has changed; name another step's "
            "directory beside it, if there is one"
        )
    return step


def _is_complete(step: Path) -> bool:
    """Whether Orbax has marked the step as committed."""
    try:
        metadata = json.loads((step / _ORBAX_METADATA).read_text(encoding="utf-8"))
        return bool(metadata["commit_timestamp_nsecs"])
    except (OSError, ValueError, KeyError, TypeError):
        return (step / _DIGESTS).exists()  # it was complete once: now it is damaged


def _is_damaged(step: Path) -> bool:
    """Whether a complete step's files have changed; those of one without digests cannot be told."""
    try:
        return _digests(step) != json.loads((step / _DIGESTS).read_text(encoding="utf-8"))
    except FileNotFoundError:
        warnings.warn(
            f"checkpoint {step} has no {_DIGESTS}: it is used without being checked", stacklevel=3
        )
        return False
    except ValueError:
        return True


def _digests(directory: Path) -> dict[str, str]:
    return {
        str(path.relative_to(directory)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(directory.rglob("*"))
        if path.is_file() and path != directory / _DIGESTS
    }
