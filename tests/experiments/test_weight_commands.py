"""convert_weights, evaluate and --init-from, from the command line."""

import json
from pathlib import Path

import jax
import numpy as np
import pytest

from experiments import c1_training, c7_no_batch_norm, convert_weights, evaluate
from jaxresnet.train.log import read_json_lines
from jaxresnet.train.weights import load_model
from tests.experiments.running import command, losses, run


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    directory = tmp_path_factory.mktemp("trained") / "run"
    assert run(c1_training.main, directory, "--epochs", "1", "--learning-rate", "0.01") == 0
    return directory


def test_evaluate_repeats_what_the_run_found(trained, tmp_path, capsys):
    safetensors = tmp_path / "trained.safetensors"
    assert command(convert_weights.main, trained, safetensors, "--names", "kuangliu") == 0
    assert "resnet18 of width 4, cifar stem, 10 classes" in capsys.readouterr().out
    (epoch,) = read_json_lines(trained / "epochs.jsonl")
    images = ["--eval-images", "30", "--batch-size", "20"]
    step = next((trained / "checkpoints" / "sgd").iterdir())
    for number, (weights, data) in enumerate(
        [
            (trained, []),
            (trained, ["--image-size", "32"]),  # the run's own, still
            (step, []),
            (safetensors, ["--data", "synthetic"]),
        ]
    ):
        out = tmp_path / str(number)
        assert command(evaluate.main, "--weights", weights, *data, *images, "--out", out) == 0
        summary = json.loads((out / "summary.json").read_text())
        assert summary["test_images"] == 30
        assert summary["test_loss"] == epoch["test_loss"]
        assert summary["test_top1"] == epoch["test_top1"]
        assert summary["images"] == "synthetic images"
        assert "synthetic images" in (out / "report.md").read_text()


def test_averaged_weights_are_evaluated_and_handed_on(tmp_path):
    arguments = ["--epochs", "2", "--learning-rate", "0.01", "--ema", "0.9", "--label-smoothing"]
    assert run(c1_training.main, tmp_path / "run", *arguments, "0.1") == 0
    report = (tmp_path / "run" / "report.md").read_text()
    assert "label smoothing 0.1" in report
    assert "averaged weights (decay 0.9)" in report
    assert command(convert_weights.main, tmp_path / "run", tmp_path / "a.safetensors") == 0
    *_, epoch = read_json_lines(tmp_path / "run" / "epochs.jsonl")
    images = ["--data", "synthetic", "--eval-images", "30", "--batch-size", "20"]
    for name in ("run", "a.safetensors"):
        out = tmp_path / f"of-{name}"
        assert command(evaluate.main, "--weights", tmp_path / name, *images, "--out", out) == 0
        summary = json.loads((out / "summary.json").read_text())
        assert summary["test_loss"] == epoch["test_loss"]


def test_another_evaluation_is_not_written_over(trained, tmp_path, capsys):
    arguments = ["--weights", trained, "--data", "synthetic", "--out", tmp_path / "out"]
    assert command(evaluate.main, *arguments, "--eval-images", "10") == 0
    assert command(evaluate.main, *arguments, "--eval-images", "20") == 2
    assert "--eval-images: 10 there, 20 now" in capsys.readouterr().err
    assert command(evaluate.main, *arguments, "--eval-images", "20", "--fresh") == 0


def test_a_run_starts_from_weights(trained, tmp_path, capsys):
    again = tmp_path / "again"
    assert command(convert_weights.main, trained, tmp_path / "weights") == 0
    assert run(c1_training.main, again, "--epochs", "1", "--init-from", str(trained)) == 0
    fresh = tmp_path / "fresh"
    assert run(c1_training.main, fresh, "--epochs", "1") == 0
    assert losses(again)[0] != losses(fresh)[0]
    # Trained for an epoch on these 60 images, it is better on the very first batch.
    assert losses(again)[0] < losses(trained)[0]
    assert "starting from" in (again / "report.md").read_text()
    # The same weights in another file are the same run; others are not.
    other = ["--epochs", "1", "--init-from", str(tmp_path / "weights")]
    assert run(c1_training.main, again, *other) == 0
    assert "already trained" in capsys.readouterr().out
    assert run(c1_training.main, again, "--epochs", "1") == 2
    assert "--init-from: weights" in capsys.readouterr().err


def test_a_network_with_biases_goes_on_from_its_file(trained, tmp_path, capsys):
    first, file = tmp_path / "first", tmp_path / "resnet.safetensors"
    assert run(c1_training.main, first, "--epochs", "1", "--conv-bias") == 0
    assert "convolutions with biases" in (first / "report.md").read_text()
    assert "--conv-bias True instead of False" in (first / "report.md").read_text()
    assert command(convert_weights.main, first, file, "--names", "talk") == 0
    output = capsys.readouterr().out
    assert "with convolution bias" in output
    assert f"written to {file}, {file.stat().st_size / 2**20:.1f} MiB" in output
    arguments = ["--epochs", "1", "--init-from"]
    again = tmp_path / "again"
    assert run(c1_training.main, again, *arguments, str(file), "--conv-bias") == 0
    assert losses(again)[0] < losses(first)[0]
    for weights, options, change in [
        (file, [], "add --conv-bias"),
        (trained, ["--conv-bias"], "leave out --conv-bias (or, where it is the default, add --no-"),
    ]:
        capsys.readouterr()
        assert run(c1_training.main, tmp_path / "no", *arguments, str(weights), *options) == 2
        assert f"to use these weights, {change}" in capsys.readouterr().err
    assert not (tmp_path / "no").exists()


def test_converting_there_and_back_is_exact(trained, tmp_path):
    for source, destination in [("run", "a.safetensors"), ("a.safetensors", "b"), ("b", "c")]:
        path = trained if source == "run" else tmp_path / source
        assert command(convert_weights.main, path, tmp_path / destination) == 0
    jax.tree.map(np.testing.assert_array_equal, load_model(trained), load_model(tmp_path / "c"))


def test_weights_of_another_network_are_refused_before_anything_is_written(
    trained, tmp_path, capsys
):
    arguments = ["--init-from", str(trained)]
    assert run(c7_no_batch_norm.main, tmp_path / "run", *arguments) == 2
    error = capsys.readouterr().err
    assert f"{trained}: the weights do not fit the model" in error
    assert "unexpected: bn1.weight" in error
    assert "to use these weights, set --norm batch" in error
    assert run(c1_training.main, tmp_path / "run", "--width", "8", *arguments) == 2
    assert "conv1.weight (4, 3, 3, 3) instead of (8, 3, 3, 3)" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_bad_commands_name_what_is_wrong(trained, tmp_path, capsys):
    for arguments, message in [
        ((tmp_path / "no.pth", tmp_path / "a.safetensors"), "no.pth does not exist"),
        ((trained, tmp_path / "a.onnx"), "a.onnx has an unknown suffix"),
        ((trained, tmp_path), "exists; choose another name"),
    ]:
        assert command(convert_weights.main, *arguments) == 2
        assert message in capsys.readouterr().err
    weights = ["--weights", trained, "--data", "synthetic"]
    assert command(evaluate.main, *weights, "--batch-size", "0") == 2
    assert "--batch-size must be at least 1, got 0" in capsys.readouterr().err
