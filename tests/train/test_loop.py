"""The loop: it learns, and logs what it does."""

import dataclasses
import io
import time
from typing import Any

import numpy as np
import pytest

from jaxresnet.train.checkpoint import Checkpoints
from jaxresnet.train.clock import Diverged
from jaxresnet.train.figures import cross_entropy
from jaxresnet.train.interrupt import Stopped, StopRequest
from jaxresnet.train.log import read_json_lines
from jaxresnet.train.recipe import TrainingOptions
from jaxresnet.train.state import TrainState
from jaxresnet.train.training import Programs, Training, compile_programs
from tests.train.running import DATA, StoppingLoader, figures, make_training, run, train


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
