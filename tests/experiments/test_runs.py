"""Small runs of the training experiments, from the command line's arguments to their reports."""

import csv
import dataclasses
import json
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from experiments import (
    c1_training,
    c2_timing,
    c6_optimizers,
    c7_no_batch_norm,
    compare,
    evaluate,
)
from experiments.harness.images import load_images
from jaxresnet.kernels import conv
from jaxresnet.train.log import read_json_lines
from tests.experiments.running import command, losses, run, saved_params


@pytest.fixture(scope="module")
def c6_run(tmp_path_factory) -> Path:
    directory = tmp_path_factory.mktemp("c6") / "run"
    # Optax's Adam raises a float to an integer power, which strict promotion forbids.
    with jax.numpy_dtype_promotion("standard"):
        assert run(c6_optimizers.main, directory, "--epochs", "2") == 0
    return directory


def test_c6_leaves_everything_in_its_directory(c6_run):
    names = {path.name for path in c6_run.iterdir()}
    assert names >= {
        "settings.json", "environment.json", "summary.json", "report.md", "steps.jsonl",
        "epochs.jsonl", "loss_by_epoch.png", "top1_by_epoch.png", "checkpoints",
    }  # fmt: skip
    epochs = read_json_lines(c6_run / "epochs.jsonl")
    series = ["sgd", "nesterov", "adagrad", "adadelta", "adam"]
    assert [(e["series"], e["epoch"]) for e in epochs] == [(s, n) for s in series for n in (0, 1)]
    assert len(read_json_lines(c6_run / "steps.jsonl")) == 5 * 2 * 3
    environment = json.loads((c6_run / "environment.json").read_text())
    described = {"python", "packages", "device", "processor", "cpu_threads", "git_revision"}
    assert described <= set(environment)


def test_c6_says_synthetic_wherever_figures_stand(c6_run):
    report = (c6_run / "report.md").read_text()
    titles = [line for line in report.splitlines() if line[:4] == "### "]
    titles.remove("### What was published, and what this run says")
    assert all("synthetic images" in title for title in titles)
    for name in ("settings.json", "environment.json", "summary.json"):
        assert "synthetic images" in (c6_run / name).read_text()
    for name in ("steps.jsonl", "epochs.jsonl"):
        assert {line["data"] for line in read_json_lines(c6_run / name)} == {"synthetic images"}


def table_row(report: str, label: str) -> list[str]:
    """The cells of the first row of that label."""
    row = next(line for line in report.splitlines() if line.startswith(f"| {label} |"))
    return [cell.strip() for cell in row.strip("|").split("|")]


def test_c6_sets_its_own_figures_beside_the_published_ones(c6_run):
    report = (c6_run / "report.md").read_text()
    # seeds/002 and seeds/003: 39.06 s, 1.3860 and 49.78% on average; 0.804, 71.928% at the end.
    lab_b, lab_c = table_row(report, "lab-b"), table_row(report, "lab-c")
    assert lab_b == ["lab-b", "-", "39.1", "-", "-", "-", "1.386", "-", "49.8", "-", "-", "-"]
    assert lab_c[6:] == ["1.281", "0.804", "54.0", "71.9", "72.3", "-"]
    epochs = [e for e in read_json_lines(c6_run / "epochs.jsonl") if e["series"] == "sgd"]
    own = table_row(report, "SGD")
    assert own[6] == f"{np.mean([e['loss'] for e in epochs]):.3f}"
    assert own[7] == f"{epochs[-1]['loss']:.3f}"
    assert own[8] == f"{100 * np.mean([e['top1'] for e in epochs]):.1f}"
    assert own[11] == f"{100 * epochs[-1]['test_top1']:.1f}"
    assert "This is not the published protocol: --train-images 60 instead of its default" in report
    assert "--epochs 2 instead of 5" in report
    assert (
        "SGD (rate 0.1, momentum 0.9), SGD, Nesterov (rate 0.1, momentum 0.9), Adagrad (rate 0.1),"
        in report
    )


def test_when_one_optimizer_diverges_the_others_are_reported(tmp_path, capsys):
    # SGD adds 1e30 x the parameter; to Adagrad, which divides by its root mean square, it is lost.
    arguments = ["--optimizers", "sgd", "adagrad", "--weight-decay", "1e30", "--epochs", "1"]
    assert run(c6_optimizers.main, tmp_path, *arguments) == 1
    error = capsys.readouterr().err
    assert "SGD: the loss or a parameter was not finite after step 0" in error
    assert "Traceback" not in error
    report = (tmp_path / "report.md").read_text()
    assert table_row(report, "Adagrad")
    assert "| SGD |" not in report


@pytest.mark.slow
def test_both_convolutions_train_alike_and_verbose_says_what_is_on(tmp_path, capsys, monkeypatch):
    fast_conv, used = conv.fast_conv, []

    def note(*arguments):
        used.append(convolution)
        return fast_conv(*arguments)

    monkeypatch.setattr(conv, "fast_conv", note)
    for convolution in ("fast", "plain"):
        arguments = ["--epochs", "1", "--convolution", convolution, "--verbose"]
        arguments += ["--learning-rate", "0.001"]  # at 0.1 rounding grows from step to step
        assert run(c1_training.main, tmp_path / convolution, *arguments) == 0
    fast, plain = losses(tmp_path / "fast"), losses(tmp_path / "plain")
    np.testing.assert_allclose(fast, plain, rtol=1e-3)
    assert len(fast) == 3
    assert set(used) == ({"fast"} if jax.default_backend() == "cpu" else set())
    output = capsys.readouterr().out
    environment = json.loads((tmp_path / "fast" / "environment.json").read_text())
    assert environment["fast_settings"]
    for setting in environment["fast_settings"]:
        assert f"{setting['name']} = {setting['value']}: {setting['why']}" in output


def test_the_same_command_again_trains_nothing(c6_run, capsys):
    before = (c6_run / "steps.jsonl").read_text()
    assert run(c6_optimizers.main, c6_run, "--epochs", "2") == 0
    assert capsys.readouterr().out.count("already trained") == 5
    assert (c6_run / "steps.jsonl").read_text() == before


def test_other_settings_are_refused_with_the_difference(c6_run, capsys):
    assert run(c6_optimizers.main, c6_run, "--epochs", "3") == 2
    error = capsys.readouterr().err
    assert "--epochs: 2 there, 3 now" in error
    assert "--fresh" in error
    assert "Traceback" not in error


def test_another_experiments_directory_is_refused(c6_run, capsys):
    for fresh in ([], ["--fresh"]):
        assert run(c1_training.main, c6_run, *fresh) == 2
        assert "holds a run of c6_optimizers, not of c1_training" in capsys.readouterr().err
    assert (c6_run / "report.md").exists()


def test_a_directory_with_other_files_is_refused(tmp_path, capsys):
    (tmp_path / "thesis.tex").touch()
    assert run(c1_training.main, tmp_path, "--fresh") == 2
    assert "holds files but no run" in capsys.readouterr().err
    assert (tmp_path / "thesis.tex").exists()


def test_a_directory_that_cannot_be_written_is_refused(tmp_path, capsys):
    (tmp_path / "file").touch()
    assert run(c1_training.main, tmp_path / "file" / "run") == 2
    assert "cannot be written" in capsys.readouterr().err


def test_bad_data_are_refused_before_anything_is_written(tmp_path, capsys):
    missing = ["--data", "cifar10", "--data-dir", str(tmp_path / "missing")]
    assert run(c1_training.main, tmp_path / "run", *missing) == 2
    assert "does not exist" in capsys.readouterr().err
    assert run(c1_training.main, tmp_path / "run", "--batch-size", "61") == 2
    assert "--batch-size is 61, but there are only 60" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


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
    first = table_row(report, "1")
    assert first[5:] == ["1.04", "18.61", "39.87", "0.19", "13.97"]  # seeds/002 and seeds/003
    epochs = read_json_lines(tmp_path / "epochs.jsonl")
    total = table_row(report, "Total Epochs time")[1]
    assert float(total) == pytest.approx(sum(e["seconds"] for e in epochs), abs=1e-3)


def test_c7_trains_without_norm_beside_both_labs(tmp_path):
    assert run(c7_no_batch_norm.main, tmp_path, "--epochs", "1") == 0
    row = table_row((tmp_path / "report.md").read_text(), "1")
    assert row[2] == "31.4"  # lab-b's first epoch
    assert row[4:6] == ["1.530", "2.159"]
    assert row[7:9] == ["43.2", "17.3"]
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
    row = table_row((tmp_path / "report.md").read_text(), "1")
    assert row[3] == f"{np.mean(losses_):.3f} ± {np.std(losses_, ddof=1):.3f}"
    # A seed among several trains as it does alone.
    assert run(c7_no_batch_norm.main, tmp_path / "alone", "--epochs", "1", "--seed", "3") == 0
    assert losses(tmp_path / "alone") == losses(tmp_path)[3:]


def test_c6_averages_over_seeds(tmp_path):
    arguments = ["--optimizers", "sgd", "--seeds", "0", "1", "--epochs", "1"]
    assert run(c6_optimizers.main, tmp_path, *arguments) == 0
    found = [epoch["loss"] for epoch in read_json_lines(tmp_path / "epochs.jsonl")]
    report = (tmp_path / "report.md").read_text()
    deviation = f"{np.mean(found):.3f} ± {np.std(found, ddof=1):.3f}"
    assert table_row(report, "SGD")[6] == table_row(report, "SGD")[7] == deviation
    assert "the standard deviation over 2 seeds" in report
    assert (tmp_path / "loss_by_epoch.png").exists()


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
    assert [float(row["loss"]) for row in rows] == losses(tmp_path / "a")


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
    assert table_row(reports["100"], "epoch")[-4:] == [
        "top-5",
        "test loss",
        "test top-1",
        "test top-5",
    ]
    row = table_row(reports["100"], "1")
    assert (row[-4], row[-1]) == (top5, test_top5)
    assert table_row(reports["evaluated"], "weights")[4] == "test top-5"
    assert (
        table_row(reports["evaluated"], str(tmp_path / "100"))[4]
        == f"{100 * epoch['test_top5']:.2f}"
    )
    assert table_row(reports["compared"], "10, sgd")[-1] == "-"
    assert table_row(reports["compared"], "100, sgd")[-1] == test_top5


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
