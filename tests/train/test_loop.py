"""The loop: it learns, and stopping it anywhere changes nothing."""

import contextlib
import dataclasses
import io
import shutil
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from rich.console import Console

from jaxresnet.data.dataset import Dataset
from jaxresnet.data.loaders import LoaderOptions, WorkerOptions
from jaxresnet.data.sources import ImageOptions, load_dataset
from jaxresnet.errors import UserError
from jaxresnet.models.resnet import MODELS, BasicBlock, ModelOptions
from jaxresnet.options import replace_options
from jaxresnet.train.checkpoint import CheckpointOptions, Checkpoints
from jaxresnet.train.clock import Diverged
from jaxresnet.train.figures import cross_entropy
from jaxresnet.train.interrupt import Stopped, StopRequest
from jaxresnet.train.log import RunLog, read_json_lines
from jaxresnet.train.loop import Trainer
from jaxresnet.train.progress import Progress
from jaxresnet.train.recipe import Recipe, TrainingOptions
from jaxresnet.train.state import TrainState
from jaxresnet.train.step import evaluate
from jaxresnet.train.training import Programs, Training, build_training, compile_programs

EPOCHS, BATCH = 2, 16
IMAGES = ImageOptions(data="synthetic", train_images=72, eval_images=20)
DATA = load_dataset(IMAGES, on_progress=print, warn=print)  # five batches, the last of 8
START = {"machine": "here", "revision": "abc"}


class StoppingLoader:
    """A loader that asks the run to stop when it hands out its n-th batch."""

    def __init__(self, loader, stop: StopRequest, after: int | None):
        self._loader, self._stop, self._left = loader, stop, after
        self.arguments, self.read = loader.arguments, loader.read

    def epoch(self, epoch: int, first_batch: int = 0):
        for batch in self._loader.epoch(epoch, first_batch):
            if self._left is not None:
                self._left -= 1
                if self._left == 0:
                    self._stop.remember(15)
            yield batch


@pytest.fixture(autouse=True, scope="module")
def _tiny_network():
    """Two blocks, so that compiling takes little."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(MODELS, "tiny", (BasicBlock, (1, 1)))
        yield


def make_training(
    *, loader="resident", workers=2, sync=False, dataset: Dataset = DATA, **options
) -> Training:
    recipe = Recipe(
        IMAGES, ModelOptions(model="tiny", width=4), training=TrainingOptions(EPOCHS, BATCH)
    )
    loading = LoaderOptions(loader=loader, workers=workers, sync_each_step=sync)
    return build_training("sgd", "SGD", replace_options(recipe, **options), dataset, loading)


def train(
    directory: Path,
    training: Training,
    stop: StopRequest,
    output: io.StringIO,
    checkpoint_every: int,
    compiler=compile_programs,
) -> Checkpoints:
    directory.mkdir(exist_ok=True)
    log = RunLog(directory, DATA.title, START)
    checkpoints = Checkpoints(directory / "sgd", CheckpointOptions(checkpoint_every))
    progress = Progress(
        Console(file=output, width=200), 1, training.epochs, len(DATA.train), len(DATA.test)
    )
    with contextlib.closing(log), progress:
        Trainer(training, log, checkpoints, progress, stop, compiler).run()
    return checkpoints


def run(
    directory: Path, *, stop_after: int | None = None, checkpoint_every: int = 3, **options
) -> tuple[TrainState, str]:
    """Trains in `directory`; returns the last checkpoint and what was printed."""
    stop, output = StopRequest(), io.StringIO()
    training = make_training(**options)
    loader: Any = StoppingLoader(training.loader, stop, stop_after)
    training = dataclasses.replace(training, loader=loader)
    checkpoints = train(directory, training, stop, output, checkpoint_every)
    step = checkpoints.latest_step()
    assert step is not None
    return checkpoints.restore(step, like=training.initial_state), output.getvalue()


class LateLoss:
    """A loss that is there 50 ms after it was asked for."""

    def __init__(self, events: list[str]):
        self._events = events

    def block_until_ready(self) -> None:
        time.sleep(0.05)
        self._events.append("step done")

    def __array__(self, dtype=None, copy=None):
        return np.array(1.0, dtype)


@pytest.mark.parametrize("sync", [True, False])
def test_with_sync_each_step_no_batch_is_asked_for_before_the_step_is_done(sync, tmp_path):
    events: list[str] = []

    class Loader(StoppingLoader):
        def epoch(self, epoch: int, first_batch: int = 0):
            for batch in super().epoch(epoch, first_batch):
                events.append("batch")
                yield batch

    def compiler(training: Training, state: TrainState) -> Programs:
        programs = compile_programs(training, state)

        def late(step):
            def call(*arguments):
                new, metrics = step(*arguments)
                return new, {**metrics, "loss": LateLoss(events)}

            return call

        return Programs({n: late(step) for n, step in programs.train.items()}, programs.evaluate)

    training = make_training(epochs=1, sync=sync)
    loader: Any = Loader(training.loader, StopRequest(), None)
    training = dataclasses.replace(training, loader=loader)
    train(tmp_path, training, StopRequest(), io.StringIO(), 100, compiler)
    assert events.count("batch") == 5
    second = [index for index, event in enumerate(events) if event == "batch"][1]
    assert ("step done" in events[:second]) == sync


@pytest.fixture(autouse=True)
def _signal_handlers(monkeypatch):
    """remember() resets the process's handlers; the tests keep theirs."""
    monkeypatch.setattr("signal.signal", lambda *_: None)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> tuple[TrainState, Path]:
    directory = tmp_path_factory.mktemp("undisturbed")
    return run(directory)[0], directory


def figures(directory: Path) -> tuple[list, list]:
    """What the logs say of losses and answers, without times."""
    steps = [
        (s["step"], s["loss"], s["correct"]) for s in read_json_lines(directory / "steps.jsonl")
    ]
    epochs = [
        (e["epoch"], e["loss"], e["top1"], e["test_loss"], e["test_top1"])
        for e in read_json_lines(directory / "epochs.jsonl")
    ]
    return steps, epochs


def assert_same(found: TrainState, expected: TrainState) -> None:
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_array_equal(one, other)


def test_every_step_and_epoch_is_logged(undisturbed):
    state, directory = undisturbed
    steps, epochs = figures(directory)
    assert int(state.step) == 10
    assert [step for step, *_ in steps] == list(range(10))
    assert [epoch for epoch, *_ in epochs] == [0, 1]
    images = [line["images"] for line in read_json_lines(directory / "steps.jsonl")]
    assert images == [16, 16, 16, 16, 8] * 2
    tested = read_json_lines(directory / "test_batches.jsonl")
    assert [(line["epoch"], line["batch"]) for line in tested] == [(0, 0), (0, 1), (1, 0), (1, 1)]
    compile_seconds = [line["compile"] for line in read_json_lines(directory / "starts.jsonl")]
    assert len(compile_seconds) == 1
    assert compile_seconds[0] > 0


def test_the_times_of_an_epoch_add_up(undisturbed):
    _, directory = undisturbed
    for epoch in read_json_lines(directory / "epochs.jsonl"):
        assert epoch["seconds"] == pytest.approx(epoch["input_stall"] + epoch["compute"])
        assert epoch["input_stall"] >= 0
        assert epoch["compute"] > 0


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


def test_from_100_classes_on_there_is_top5(tmp_path):
    names = tuple(f"class {number}" for number in range(100))
    _, output = run(tmp_path, dataset=dataclasses.replace(DATA, class_names=names), epochs=1)
    steps, (epoch,) = (read_json_lines(tmp_path / f"{name}.jsonl") for name in ("steps", "epochs"))
    assert all(step["top5"] == step["correct_top5"] / step["images"] for step in steps)
    assert epoch["top5"] == sum(step["correct_top5"] for step in steps) / len(DATA.train)
    assert epoch["top1"] <= epoch["top5"] <= 1
    assert epoch["test_top1"] <= epoch["test_top5"] <= 1
    assert f"test top-5 {epoch['test_top5']:.1%}" in output


def test_of_10_classes_there_is_no_top5(undisturbed):
    _, directory = undisturbed
    for log in ("steps", "epochs", "test_batches"):
        for line in read_json_lines(directory / f"{log}.jsonl"):
            assert not any("top5" in name for name in line)


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


def test_logs_that_lack_steps_are_refused(tmp_path):
    with pytest.raises(Stopped):
        run(tmp_path / "run", stop_after=4)
    (tmp_path / "run" / "steps.jsonl").unlink()
    with pytest.raises(UserError, match=r"logs of 0 steps .* of sgd.* after 4 steps; .*--fresh"):
        run(tmp_path / "run")


def test_checkpoints_that_are_gone_do_not_start_a_run_silently_anew(tmp_path):
    with pytest.raises(Stopped):
        run(tmp_path / "run", stop_after=7)
    shutil.rmtree(tmp_path / "run" / "sgd")
    with pytest.raises(UserError, match=r"epochs of sgd, but their checkpoints are gone"):
        run(tmp_path / "run")


def test_epochs_missing_from_the_log_are_noticed(tmp_path):
    with pytest.raises(Stopped):
        run(tmp_path / "run", stop_after=7)
    (tmp_path / "run" / "epochs.jsonl").unlink()
    with pytest.raises(UserError, match=r"logs of 7 steps and 0 epochs.* after 7 steps"):
        run(tmp_path / "run")


def test_a_run_that_diverges_stops_and_keeps_only_finite_checkpoints(tmp_path):
    # The first loss is finite, its update is not: that state must not be saved.
    with pytest.raises(Diverged, match=r"not finite after step 0 \(epoch 1, batch 1; loss 2"):
        run(tmp_path / "run", learning_rate=1e38, checkpoint_every=1)
    assert Checkpoints(tmp_path / "run" / "sgd").latest_step() is None


def test_training_learns(tmp_path):
    run(tmp_path / "run", epochs=8, learning_rate=0.05)
    epochs = read_json_lines(tmp_path / "run" / "epochs.jsonl")
    assert epochs[-1]["loss"] < epochs[0]["loss"] - 0.1
    assert epochs[-1]["top1"] > epochs[0]["top1"]


def test_the_recipes_loss_is_what_a_run_minimises(tmp_path, undisturbed, monkeypatch):
    monkeypatch.setattr(TrainingOptions, "loss", lambda _, *outputs: 2 * cross_entropy(*outputs))
    with pytest.raises(Stopped):
        run(tmp_path / "run", stop_after=2)
    (_, loss, _), *_ = figures(tmp_path / "run")[0]
    (_, usual, _), *_ = figures(undisturbed[1])[0]
    assert loss == pytest.approx(2 * usual)
