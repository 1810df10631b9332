"""Checkpoints that survive a kill, a power cut and a damaged disk.

Orbax writes each step to a temporary directory and renames it. It does not notice a flipped bit,
so a manifest with the SHA-256 of every file is kept beside each step and checked before use. A
step without a manifest was interrupted while it was saved, and does not count.
"""

import hashlib
import json
import logging
import shutil
import warnings
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp

from jaxresnet.errors import UserError
from jaxresnet.models.torch_weights import Weights
from jaxresnet.train.metrics import write_json
from jaxresnet.train.state import TrainState

logging.getLogger("absl").setLevel(logging.ERROR)  # Orbax reports each of its steps there

# The newest, and the one before it to fall back on.
KEEP = 2

_MANIFEST_SUFFIX = ".sha256.json"


class Checkpoints:
    """The checkpoints of one training, one directory per step."""

    def __init__(self, directory: Path):
        self._directory = directory.absolute()
        self._directory.mkdir(parents=True, exist_ok=True)
        self._has_damaged = False
        self._clear_unusable()
        options = ocp.CheckpointManagerOptions(
            max_to_keep=KEEP, enable_async_checkpointing=False, cleanup_tmp_directories=True
        )
        self._manager = ocp.CheckpointManager(self._directory, options=options)

    def latest_step(self) -> int | None:
        """The newest step that is whole, None if nothing was ever saved.

        Raises:
          UserError: there were checkpoints, and every one is damaged.
        """
        step = self._manager.latest_step()
        if step is None and self._has_damaged:
            raise UserError(
                f"every checkpoint in {self._directory} is damaged (they were moved to "
                f"{self._damaged_directory}); start anew with --fresh"
            )
        return step

    def save(self, state: TrainState) -> None:
        """Writes the state under its step; returns when it is on the disk."""
        step = int(state.step)
        if step in self._manager.all_steps():
            return
        items = {name: ocp.args.StandardSave(tree) for name, tree in _items(state).items()}
        position = ocp.args.JsonSave({"step": step})
        self._manager.save(step, args=ocp.args.Composite(position=position, **items))
        self._manager.wait_until_finished()
        if not (self._directory / str(step)).is_dir():
            raise OSError(f"the checkpoint of step {step} was not written to {self._directory}")
        write_json(_manifest(self._directory / str(step)), _digests(self._directory / str(step)))
        for manifest in _manifests(self._directory):
            if not (self._directory / manifest.name.partition(".")[0]).is_dir():
                manifest.unlink()

    def restore(self, step: int, like: TrainState) -> TrainState:
        """The state saved under `step`, with the structure of `like`."""
        abstract = _items(jax.tree.map(ocp.utils.to_shape_dtype_struct, like))
        items = {name: ocp.args.StandardRestore(tree) for name, tree in abstract.items()}
        position = ocp.args.JsonRestore()
        found = self._manager.restore(step, args=ocp.args.Composite(position=position, **items))
        opt_state_leaves = [found["opt_state"][path] for path in abstract.get("opt_state", ())]
        return TrainState(
            step=jnp.asarray(found["position"]["step"], like.step.dtype),
            params=found["params"],
            batch_stats=found["batch_stats"] if "batch_stats" in items else like.batch_stats,
            opt_state=jax.tree.unflatten(jax.tree.structure(like.opt_state), opt_state_leaves),
        )

    def close(self) -> None:
        self._manager.close()

    @property
    def _damaged_directory(self) -> Path:
        return self._directory / "damaged"

    def _clear_unusable(self) -> None:
        """Removes steps whose saving was interrupted; moves damaged ones aside."""
        for path in self._directory.iterdir():
            if not (path.is_dir() and path.name.isdigit()):
                continue
            manifest = _manifest(path)
            if not manifest.exists():
                shutil.rmtree(path)
            elif _is_damaged(path, manifest):
                warnings.warn(
                    f"checkpoint {path} is damaged: moved to {self._damaged_directory}, "
                    "and the one before it is used",
                    stacklevel=3,
                )
                self._damaged_directory.mkdir(exist_ok=True)
                shutil.rmtree(self._damaged_directory / path.name, ignore_errors=True)
                path.rename(self._damaged_directory / path.name)
                manifest.unlink()
        self._has_damaged = self._damaged_directory.exists()


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
        steps = [path.with_name(path.name.partition(".")[0]) for path in _manifests(directory)]
        steps.sort(key=lambda step: int(step.name))
        newest = {step.parent: step for step in steps}
    if not newest:
        raise UserError(f"{directory} holds no weights: there is no checkpoint in it")
    if len(newest) > 1:
        names = ", ".join(str(training) for training in sorted(newest))
        raise UserError(f"{directory} holds the weights of several trainings; name one: {names}")
    (step,) = newest.values()
    manifest = _manifest(step)
    if manifest.exists() and _is_damaged(step, manifest):
        raise UserError(
            f"the weights in {step} are damaged: their SHA-256 has changed; name another step's "
            "directory beside it, if there is one"
        )
    return step


def _manifests(directory: Path) -> list[Path]:
    found = directory.rglob(f"*{_MANIFEST_SUFFIX}")
    return [path for path in found if path.name.removesuffix(_MANIFEST_SUFFIX).isdigit()]


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
    write_json(_manifest(directory), _digests(directory))


def _number_keys(tree: Any) -> Any:
    """Orbax writes the numbers of stages and blocks as text."""
    if not isinstance(tree, dict):
        return tree
    return {
        int(key) if str(key).isdigit() else key: _number_keys(branch)
        for key, branch in tree.items()
    }


def _manifest(step: Path) -> Path:
    return step.with_name(f"{step.name}{_MANIFEST_SUFFIX}")


def _digests(directory: Path) -> dict[str, str]:
    files = sorted(path for path in directory.rglob("*") if path.is_file())
    return {
        str(path.relative_to(directory)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in files
    }


def _is_damaged(directory: Path, manifest: Path) -> bool:
    try:
        expected = json.loads(manifest.read_text(encoding="utf-8"))
    except ValueError:
        return True
    return _digests(directory) != expected
