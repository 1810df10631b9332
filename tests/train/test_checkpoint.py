"""Checkpoints: bitwise, and safe against damage and interruption."""

from pathlib import Path

import jax
import numpy as np
import pytest
from flax import nnx

from jaxresnet.errors import UserError
from jaxresnet.models.resnet import BasicBlock, ResNet
from jaxresnet.optim import OptimizerOptions
from jaxresnet.train.checkpoint import Checkpoints, find_checkpoint, restore_weights
from jaxresnet.train.state import TrainState, create_state, split_model


def make_state(
    step: int = 0, optimizer: str = "adam", norm: str = "batch", *, averaged: bool = False
) -> TrainState:
    model = ResNet(BasicBlock, (1, 1), width=4, norm=norm, rngs=nnx.Rngs(step))
    _, params, batch_stats = split_model(model)
    transform = OptimizerOptions(optimizer=optimizer).create(1, 10)
    state = create_state(params, batch_stats, transform, averaged=averaged)
    average = jax.tree.map(lambda array: array + 1, state.average)
    return state._replace(step=state.step + step, average=average)


def save(directory: Path, *steps: int) -> None:
    checkpoints = Checkpoints(directory)
    for step in steps:
        checkpoints.save(make_state(step))
    checkpoints.close()


def assert_same(found: TrainState, expected: TrainState) -> None:
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("norm", ["batch", "none"])
@pytest.mark.parametrize(
    ("optimizer", "averaged"), [("sgd", False), ("sgd", True), ("adam", False), ("adadelta", True)]
)
def test_a_state_comes_back_bitwise(tmp_path, optimizer, averaged, norm):
    state = make_state(3, optimizer, norm, averaged=averaged)
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(state)
    checkpoints.close()
    checkpoints = Checkpoints(tmp_path)
    assert checkpoints.latest_step() == 3
    like = make_state(0, optimizer, norm, averaged=averaged)
    assert_same(checkpoints.restore(3, like), state)
    # What is handed on is what is evaluated.
    weights = restore_weights(tmp_path / "3")
    found, expected = (weights.params, weights.batch_stats), state.evaluated
    jax.tree.map(np.testing.assert_array_equal, found, expected)


def test_the_newest_two_are_kept(tmp_path):
    save(tmp_path, 1, 2, 3)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["2", "3"]


def largest_file(directory: Path) -> Path:
    return max(directory.rglob("*"), key=lambda path: path.stat().st_size * path.is_file())


@pytest.mark.parametrize("damage", ["flip a bit", "truncate", "remove a file", "bad manifest"])
def test_a_damaged_checkpoint_is_moved_aside_for_the_one_before(tmp_path, damage):
    save(tmp_path, 1, 2)
    path = largest_file(tmp_path / "2")
    content = bytearray(path.read_bytes())
    if damage == "flip a bit":
        content[len(content) // 2] ^= 1
        path.write_bytes(bytes(content))
    elif damage == "truncate":
        path.write_bytes(bytes(content[:100]))
    elif damage == "remove a file":
        path.unlink()
    else:
        (tmp_path / "2" / "sha256.json").write_text('{"half')
    with pytest.warns(UserWarning, match=r"checkpoint .*2 is damaged"):
        checkpoints = Checkpoints(tmp_path)
    assert checkpoints.latest_step() == 1
    assert_same(checkpoints.restore(1, like=make_state()), make_state(1))
    assert (tmp_path / "damaged" / "2").is_dir()
    checkpoints.save(make_state(2))  # the run comes past the same step again
    checkpoints.close()
    path = largest_file(tmp_path / "2")
    path.write_bytes(b"")
    with pytest.warns(UserWarning, match="damaged/2-1"):
        checkpoints = Checkpoints(tmp_path)
    assert sorted(path.name for path in (tmp_path / "damaged").iterdir()) == ["2", "2-1"]


def test_when_all_are_damaged_nothing_starts_silently(tmp_path):
    save(tmp_path, 1)
    largest_file(tmp_path / "1").write_bytes(b"")
    with pytest.warns(UserWarning, match="damaged"):
        checkpoints = Checkpoints(tmp_path)
    with pytest.raises(UserError, match=r"every checkpoint .*--fresh"):
        checkpoints.latest_step()


def test_unfinished_saves_are_moved_aside_and_stray_files_ignored(tmp_path):
    save(tmp_path, 1)
    (tmp_path / "7").mkdir()  # without Orbax's mark that it was committed
    (tmp_path / "7" / "half").touch()
    (tmp_path / "9.orbax-checkpoint-tmp-123").mkdir()
    (tmp_path / "notes.txt").touch()
    with pytest.warns(UserWarning, match=r"checkpoint .*7 is unfinished: moved to"):
        checkpoints = Checkpoints(tmp_path)
    assert checkpoints.latest_step() == 1
    assert (tmp_path / "unfinished" / "7" / "half").exists()
    assert find_checkpoint(tmp_path).name == "1"


def test_checkpoints_that_have_lost_their_digests_are_kept_and_used(tmp_path):
    save(tmp_path, 1, 2)
    for step in ("1", "2"):
        (tmp_path / step / "sha256.json").unlink()
    with pytest.warns(UserWarning, match="used without being checked"):
        checkpoints = Checkpoints(tmp_path)
    assert checkpoints.latest_step() == 2
    assert_same(checkpoints.restore(2, like=make_state()), make_state(2))
    with pytest.warns(UserWarning, match="used without being checked"):
        assert find_checkpoint(tmp_path).name == "2"


def test_an_empty_directory_has_no_checkpoint(tmp_path):
    assert Checkpoints(tmp_path / "new").latest_step() is None
