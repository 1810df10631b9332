"""Small runs of the training experiments, from the command line's arguments to their reports."""

import csv
import dataclasses
import sys

import jax
import numpy as np
import pytest

from experiments import (
    c1_training,
    c2_timing,
    c7_no_batch_norm,
    compare,
    evaluate,
)
from experiments.harness.images import load_images
from jaxresnet.train.log import read_json_lines
from tests.experiments.running import command, losses, row, run, saved_params


def test_c1_reports_every_batch_and_workers_do_not_matter(tmp_path):
    assert run(c1_training.main, tmp_path / "a", "--epochs", "1", "--workers", "0") == 0
    assert (tmp_path / "a" / "loss_by_batch.png").exists()
    arguments = ["--epochs", "1", "--loader", "resident", "--checkpoint-every", "1"]
    assert run(c1_training.main, tmp_path / "b", *arguments) == 0
    losses = [
        [step["loss"] for step in read_json_lines(tmp_path / run / "steps.jsonl")] for run in "ab"
    ]
    assert losses[0] == losses[1]
    assert len(losses[0]) == 3
    # Going on with other workers, prefetch or loader is the same run.
    assert run(c1_training.main, tmp_path / "a", "--epochs", "1", "--workers", "3") == 0


@pytest.mark.filterwarnings("ignore:Sharding info not provided")
def test_bfloat16_trains_and_keeps_float32_weights(tmp_path):
    assert run(c1_training.main, tmp_path, "--epochs", "1", "--dtype", "bfloat16") == 0
    dtypes = {leaf.dtype for leaf in jax.tree.leaves(saved_params(tmp_path))}
    assert dtypes == {np.dtype(np.float32)}
    assert len(losses(tmp_path)) == 3


def test_a_fresh_start_that_was_cut_short_can_be_made_again(tmp_path):
    assert run(c1_training.main, tmp_path, "--epochs", "1") == 0
    for path in tmp_path.iterdir():  # killed while deleting: only settings.json is left
        if path.name != "settings.json" and path.is_file():
            path.unlink()
    (tmp_path / "epochs.tmp").touch()
    assert run(c1_training.main, tmp_path, "--epochs", "1", "--fresh") == 0


def test_fresh_begins_anew(tmp_path):
    assert run(c1_training.main, tmp_path, "--epochs", "1") == 0
    assert run(c1_training.main, tmp_path, "--epochs", "1", "--seed", "1", "--fresh") == 0
    assert len(read_json_lines(tmp_path / "starts.jsonl")) == 1
    assert len(read_json_lines(tmp_path / "epochs.jsonl")) == 1


def test_c2_prints_lab_bs_fields_and_both_labs_tables(tmp_path):
    assert run(c2_timing.main, tmp_path, "--epochs", "2") == 0
    report = (tmp_path / "report.md").read_text()
    for field in (
        "Train Epoch", "Batch Number", "Batch Loss", "Batch Data Load Time",
        "Batch Computation Time", "Batch precision value", "Total Epoch Time",
        "Total Time loading all batches data in this epoch",
        "Average Time loading all batches data in this epoch",
        "Total time for all batches computation in this epoch",
        "Average time for all batches computation in this epoch",
        "Total Epoch Loss", "Average Epoch Loss", "Total Precision Value",
        "Average Precision Value", "Epochs.arg", "Total Epochs time", "Average all Epochs Time",
        "All Epoch Data Loading Time", "Average all Epochs Data Loading Time",
        "All Epoch Computation Time", "Average all Epochs Total Computation Time",
        "All Epoch Loss", "Average all Epochs Loss", "All Epoch Precision Value",
        "Average all Epochs Precision Value", "Batch Test Loss", "Batch Test Precision",
        "Average Epoch Test Precision Value", "Average Epochs Precision Value",
    ):  # fmt: skip
        assert field in report, field
    first = row(report, "1")
    assert first[5:] == ["1.04", "18.61", "39.87", "0.19", "13.97"]  # seeds/002 and seeds/003
    epochs = read_json_lines(tmp_path / "epochs.jsonl")
    total = row(report, "Total Epochs time")[1]
    assert float(total) == pytest.approx(sum(e["seconds"] for e in epochs), abs=1e-3)


def test_c7_trains_without_norm_beside_both_labs(tmp_path):
    assert run(c7_no_batch_norm.main, tmp_path, "--epochs", "1") == 0
    cells = row((tmp_path / "report.md").read_text(), "1")
    assert cells[2] == "31.4"  # lab-b's first epoch
    assert cells[4:6] == ["1.530", "2.159"]
    assert cells[7:9] == ["43.2", "17.3"]
    saved = {path.name for path in (tmp_path / "checkpoints" / "sgd" / "3").iterdir()}
    assert "params" in saved
    assert "batch_stats" not in saved


@pytest.mark.slow
def test_several_seeds_give_means_and_deviations(tmp_path):
    assert run(c7_no_batch_norm.main, tmp_path, "--epochs", "1", "--seeds", "0", "3") == 0
    epochs = read_json_lines(tmp_path / "epochs.jsonl")
    assert [epoch["series"] for epoch in epochs] == ["sgd-seed0", "sgd-seed3"]
    losses_ = [epoch["loss"] for epoch in epochs]
    assert losses_[0] != losses_[1]
    cells = row((tmp_path / "report.md").read_text(), "1")
    assert cells[3] == f"{np.mean(losses_):.3f} ± {np.std(losses_, ddof=1):.3f}"
    # A seed among several trains as it does alone.
    assert run(c7_no_batch_norm.main, tmp_path / "alone", "--epochs", "1", "--seed", "3") == 0
    assert losses(tmp_path / "alone") == losses(tmp_path)[3:]


@pytest.mark.slow
def test_waiting_for_each_step_changes_no_result_and_is_said(tmp_path):
    assert run(c1_training.main, tmp_path / "a", "--epochs", "1") == 0
    assert run(c1_training.main, tmp_path / "b", "--epochs", "1", "--sync-each-step") == 0
    assert losses(tmp_path / "a") == losses(tmp_path / "b")
    assert "waiting for each step" in (tmp_path / "b" / "report.md").read_text()
    assert (
        f"The loss of an epoch was {np.mean(losses(tmp_path / 'a')):.3f}; top-1"
        in (tmp_path / "a" / "report.md").read_text()
    )
    with (tmp_path / "a" / "steps.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [float(line["loss"]) for line in rows] == losses(tmp_path / "a")


@pytest.mark.slow
def test_with_100_classes_top5_stands_in_every_table(tmp_path, monkeypatch):
    def load_100_classes(*arguments):
        dataset = load_images(*arguments)
        return dataclasses.replace(dataset, class_names=tuple(f"class {n}" for n in range(100)))

    assert run(c1_training.main, tmp_path / "10", "--epochs", "1") == 0
    monkeypatch.setattr("experiments.harness.run.load_images", load_100_classes)
    monkeypatch.setattr("experiments.evaluate.load_images", load_100_classes)
    assert run(c1_training.main, tmp_path / "100", "--epochs", "1") == 0
    weights = ["--weights", tmp_path / "100", "--data", "synthetic", "--eval-images", "30"]
    assert command(evaluate.main, *weights, "--out", tmp_path / "evaluated") == 0
    runs = [tmp_path / "10", tmp_path / "100"]
    assert command(compare.main, *runs, "--out", tmp_path / "compared") == 0

    (epoch,) = read_json_lines(tmp_path / "100" / "epochs.jsonl")
    reports = {p.name: (p / "report.md").read_text() for p in tmp_path.iterdir() if p.is_dir()}
    assert "top-5" not in reports["10"]
    top5, test_top5 = (f"{100 * epoch[name]:.1f}" for name in ("top5", "test_top5"))
    assert row(reports["100"], "epoch")[-4:] == [
        "top-5",
        "test loss",
        "test top-1",
        "test top-5",
    ]
    cells = row(reports["100"], "1")
    assert (cells[-4], cells[-1]) == (top5, test_top5)
    assert row(reports["evaluated"], "weights")[4] == "test top-5"
    assert row(reports["evaluated"], str(tmp_path / "100"))[4] == f"{100 * epoch['test_top5']:.2f}"
    assert row(reports["compared"], "10, sgd")[-1] == "-"
    assert row(reports["compared"], "100, sgd")[-1] == test_top5


def test_event_files_hold_what_the_log_holds(tmp_path):
    pytest.importorskip("tensorboard", reason="tensorboard is not installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.util.tensor_util import make_ndarray

    assert run(c1_training.main, tmp_path, "--epochs", "1") == 0
    assert not (tmp_path / "events").exists()
    assert run(c1_training.main, tmp_path, "--epochs", "1", "--tensorboard") == 0
    events = EventAccumulator(str(tmp_path / "events" / "sgd"))
    events.Reload()
    found = events.Tensors("step/loss")
    assert [event.step for event in found] == [0, 1, 2]
    values = [float(make_ndarray(event.tensor_proto)) for event in found]
    assert values == pytest.approx(losses(tmp_path))
    assert [event.step for event in events.Tensors("epoch/test_top1")] == [1]


def test_event_files_without_tensorboard_are_refused_before_training(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboard.summary", None)
    assert run(c1_training.main, tmp_path / "run", "--tensorboard") == 2
    assert "pip install 'jaxresnet[tensorboard]'" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("seeds", [["1", "1"], ["-1", "0"], ["0", "1", "--seed", "5"]])
def test_bad_seeds_are_refused(seeds, tmp_path, capsys):
    assert run(c7_no_batch_norm.main, tmp_path / "run", "--seeds", *seeds) == 2
    assert "--seed" in capsys.readouterr().err
