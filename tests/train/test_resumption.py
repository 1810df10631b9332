"""Stopping a run anywhere changes nothing."""

import shutil

import jax
import numpy as np
import pytest

from jaxresnet.data.loaders import WorkerOptions
from jaxresnet.errors import UserError
from jaxresnet.train.interrupt import Stopped
from jaxresnet.train.state import TrainState
from jaxresnet.train.step import evaluate
from jaxresnet.train.training import compile_programs
from tests.train.running import BATCH, DATA, figures, make_training, run


def assert_same(found: TrainState, expected: TrainState) -> None:
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_array_equal(one, other)


# In the first batch, before and after a checkpoint, at an epoch's last batch, in the second.
@pytest.mark.parametrize(
    "stop_after",
    [pytest.param(1, marks=pytest.mark.slow), pytest.param(2, marks=pytest.mark.slow), 4, 5, 7],
)
def test_a_stopped_run_ends_bitwise_as_an_undisturbed_one(tmp_path, undisturbed, stop_after):
    with pytest.raises(Stopped) as stopped:
        run(tmp_path / "run", stop_after=stop_after)
    assert stopped.value.exit_code == 128 + 15
    state, output = run(tmp_path / "run")
    assert f"continues after step {stop_after}" in output
    assert_same(state, undisturbed[0])
    assert figures(tmp_path / "run") == figures(undisturbed[1])


@pytest.mark.slow
def test_adams_state_and_tfdata_resume_bitwise_too(tmp_path):
    # Optax's Adam raises a float to an integer power, which strict promotion forbids.
    with jax.numpy_dtype_promotion("standard"):
        options = {"optimizer": "adam", "learning_rate": 0.001}
        expected, _ = run(tmp_path / "whole", **options)
        with pytest.raises(Stopped):
            run(tmp_path / "run", stop_after=7, loader="tfdata", workers=2, **options)
        found, _ = run(tmp_path / "run", loader="tfdata", workers=1, **options)
    assert_same(found, expected)


# All that a step may do besides.
MORE = {
    "schedule": "cosine", "warmup_epochs": 0.5, "l1": 1e-4, "l2": 1e-3, "no_decay_on_norm": True,
    "label_smoothing": 0.1, "ema": 0.8, "dropout": 0.3, "zero_init_residual": True,
}  # fmt: skip


@pytest.mark.slow
def test_a_run_with_averages_and_a_schedule_resumes_bitwise_and_evaluates_the_averages(tmp_path):
    with jax.numpy_dtype_promotion("standard"):  # Optax's schedules mix floats and integers
        expected, _ = run(tmp_path / "whole", **MORE)
        with pytest.raises(Stopped):
            run(tmp_path / "run", stop_after=4, **MORE)
        found, _ = run(tmp_path / "run", **MORE)
        assert_same(found, expected)
        assert figures(tmp_path / "run") == figures(tmp_path / "whole")

        training = make_training(**MORE)
        programs = compile_programs(training, training.initial_state)
        averaged, last = (
            evaluate(programs.evaluate, *weights, DATA.test, BATCH, WorkerOptions())["test_loss"]
            for weights in (expected.evaluated, (expected.params, expected.batch_stats))
        )
        *_, (_, _, _, test_loss, _) = figures(tmp_path / "whole")[1]
        assert test_loss == averaged != last


def test_a_lost_newest_checkpoint_costs_steps_but_changes_nothing(tmp_path, undisturbed):
    with pytest.raises(Stopped):
        run(tmp_path / "run", stop_after=4)
    newest = tmp_path / "run" / "sgd" / "4"
    for name in ("_CHECKPOINT_METADATA", "sha256.json"):  # as if killed while saving
        (newest / name).unlink()
    with pytest.warns(UserWarning, match="is unfinished: moved to"):
        state, output = run(tmp_path / "run")
    assert "continues after step 3" in output
    assert_same(state, undisturbed[0])
    assert figures(tmp_path / "run") == figures(undisturbed[1])


def test_a_finished_run_says_so_and_does_nothing(tmp_path, undisturbed):
    state, output = run(undisturbed[1])
    assert "already trained" in output
    assert_same(state, undisturbed[0])


@pytest.mark.parametrize(
    ("stop_after", "lost", "message"),
    [
        (4, "steps", r"logs of 0 steps .* of sgd.* after 4 steps; .*--fresh"),
        (7, "epochs", r"logs of 7 steps and 0 epochs.* after 7 steps"),
    ],
)
def test_logs_that_lack_steps_or_epochs_are_refused(tmp_path, stop_after, lost, message):
    with pytest.raises(Stopped):
        run(tmp_path / "run", stop_after=stop_after)
    (tmp_path / "run" / f"{lost}.jsonl").unlink()
    with pytest.raises(UserError, match=message):
        run(tmp_path / "run")


def test_checkpoints_that_are_gone_do_not_start_a_run_silently_anew(tmp_path):
    with pytest.raises(Stopped):
        run(tmp_path / "run", stop_after=7)
    shutil.rmtree(tmp_path / "run" / "sgd")
    with pytest.raises(UserError, match=r"epochs of sgd, but their checkpoints are gone"):
        run(tmp_path / "run")
