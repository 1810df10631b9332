"""Checkpoints that survive a kill, a power cut and a damaged disk.

Orbax writes each step to a temporary directory and renames it. It does not notice a flipped bit, so
the SHA-256 of every file is kept in the step's directory and checked before use. Nothing that may
be someone's weights is ever deleted: a damaged or unfinished step is moved aside, and a complete
one that has lost its digests is used, with a warning.
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
from jaxresnet.options import option
from jaxresnet.train.log import write_json
from jaxresnet.train.state import TrainState

logging.getLogger("absl").setLevel(logging.ERROR)  # Orbax reports each of its steps there

# The newest, and the one before it to fall back on.
KEEP = 2

_DIGESTS = "sha256.json"
_DAMAGED, _UNFINISHED = _ASIDE = ("damaged", "unfinished")  # directories of moved steps
_ORBAX_METADATA = "_CHECKPOINT_METADATA"


@dataclass(frozen=True)
class CheckpointOptions:
    """When the state is saved."""

    checkpoint_every: int = option(200, affects="nothing", published=False, says="", at_least=1)
    """Steps between checkpoints; the end of each epoch is always saved."""


class Checkpoints:
    """The checkpoints of one training, one directory per step."""

    def __init__(self, directory: Path, options: CheckpointOptions = CheckpointOptions()):
        self._directory = directory.absolute()
        self._directory.mkdir(parents=True, exist_ok=True)
        self._every = options.checkpoint_every
        self._move_unusable_aside()
        manager_options = ocp.CheckpointManagerOptions(
            max_to_keep=KEEP, enable_async_checkpointing=False, cleanup_tmp_directories=True
        )
        self._manager = ocp.CheckpointManager(self._directory, options=manager_options)

    def is_due(self, step: int) -> bool:
        """Whether to save after that many steps, within an epoch."""
        return step % self._every == 0

    def latest_step(self) -> int | None:
        """The newest step that is whole, None if nothing was ever saved.

        Raises:
          UserError: there were checkpoints, and every one is damaged.
        """
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
        items = {name: ocp.args.StandardSave(tree) for name, tree in _items(state).items()}
        position = ocp.args.JsonSave({"step": step})
        self._manager.save(step, args=ocp.args.Composite(position=position, **items))
        self._manager.wait_until_finished()
        directory = self._directory / str(step)
        if not directory.is_dir():
            raise OSError(f"the checkpoint of step {step} was not written to {self._directory}")
        write_json(directory / _DIGESTS, _digests(directory))

    def restore(self, step: int, like: TrainState) -> TrainState:
        """The state saved under `step`, with the structure of `like`."""
        abstract = _items(jax.tree.map(ocp.utils.to_shape_dtype_struct, like))
        items = {name: ocp.args.StandardRestore(tree) for name, tree in abstract.items()}
        position = ocp.args.JsonRestore()
        found = self._manager.restore(step, args=ocp.args.Composite(position=position, **items))
        opt_state_leaves = [found["opt_state"][path] for path in abstract.get("opt_state", ())]
        return TrainState(
            step=jax.device_put(np.asarray(found["position"]["step"], like.step.dtype)),
            params=found["params"],
            batch_stats=found["batch_stats"] if "batch_stats" in items else like.batch_stats,
            opt_state=jax.tree.unflatten(jax.tree.structure(like.opt_state), opt_state_leaves),
        )

    def close(self) -> None:
        self._manager.close()

    def _move_unusable_aside(self) -> None:
        for step in [path for path in self._directory.iterdir() if path.name.isdigit()]:
            if not _is_complete(step):
                self._move(step, _UNFINISHED)
            elif _is_damaged(step):
                warnings.warn(
                    f"checkpoint {step} is damaged: moved to {self._move(step, _DAMAGED)}, and the "
                    "one before it is used",
                    stacklevel=3,
                )

    def _move(self, step: Path, where: str) -> Path:
        """Returns where the step is now; an earlier one of the same name stays."""
        directory = self._directory / where
        directory.mkdir(exist_ok=True)
        earlier = sum(path.name.partition("-")[0] == step.name for path in directory.iterdir())
        return step.rename(directory / (f"{step.name}-{earlier}" if earlier else step.name))


def _items(state: TrainState) -> dict[str, Any]:
    """What a checkpoint keeps, each an item that can be loaded alone; Orbax refuses empty ones.

    The optimizer's state goes by path: Orbax keeps dicts as they are, not Optax's named tuples.
    """
    opt_state = jax.tree.leaves_with_path(state.opt_state)
    items = {
        "params": state.params,
        "batch_stats": state.batch_stats,
        "opt_state": {jax.tree_util.keystr(path): leaf for path, leaf in opt_state},
    }
    return {name: tree for name, tree in items.items() if jax.tree.leaves(tree)}


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


def restore_weights(step: Path) -> Weights:
    """The weights in a step's directory, as NumPy arrays."""
    trees = {}
    with ocp.PyTreeCheckpointer() as checkpointer:
        for name in ("params", "batch_stats"):
            path = (step / name).absolute()
            if path.is_dir():  # batch_stats is missing where there is no normalisation
                shapes = checkpointer.metadata(path).item_metadata.tree
                numpy = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), shapes)
                trees[name] = _number_keys(checkpointer.restore(path, restore_args=numpy))
    position = json.loads((step / "position" / "metadata").read_text(encoding="utf-8"))
    return Weights(trees.get("params", {}), trees.get("batch_stats", {}), position["step"])


def save_weights(directory: Path, weights: Weights) -> None:
    """Writes weights as a checkpoint has them, without an optimizer's state."""
    trees = {"params": weights.params, "batch_stats": weights.batch_stats}
    items = {
        name: ocp.args.StandardSave(tree) for name, tree in trees.items() if jax.tree.leaves(tree)
    }
    position = ocp.args.JsonSave({"step": weights.batches})
    with ocp.Checkpointer(ocp.CompositeCheckpointHandler()) as checkpointer:
        checkpointer.save(directory.absolute(), ocp.args.Composite(position=position, **items))
    write_json(directory / _DIGESTS, _digests(directory))


def _number_keys(tree: Any) -> Any:
    """Orbax writes the numbers of stages and blocks as text."""
    if not isinstance(tree, dict):
        return tree
    return {
        int(key) if str(key).isdigit() else key: _number_keys(branch)
        for key, branch in tree.items()
    }


def _digests(directory: Path) -> dict[str, str]:
    files = sorted(path for path in directory.rglob("*") if path.is_file())
    return {
        str(path.relative_to(directory)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in files
        if path != directory / _DIGESTS
    }


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
        expected = json.loads((step / _DIGESTS).read_text(encoding="utf-8"))
    except FileNotFoundError:
        warnings.warn(
            f"checkpoint {step} has no {_DIGESTS}: it is used without being checked", stacklevel=4
        )
        return False
    except ValueError:
        return True
    return _digests(step) != expected
