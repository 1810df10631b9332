"""C6: five optimizers in one run, and what becomes of its directory."""

import json
from pathlib import Path

import jax
import numpy as np
import pytest

from experiments import (
    c1_training,
    c6_optimizers,
)
from jaxresnet.kernels import conv
from jaxresnet.train.log import read_json_lines
from tests.experiments.running import losses, row, run


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


def test_c6_sets_its_own_figures_beside_the_published_ones(c6_run):
    report = (c6_run / "report.md").read_text()
    # seeds/002 and seeds/003: 39.06 s, 1.3860 and 49.78% on average; 0.804, 71.928% at the end.
    lab_b, lab_c = row(report, "lab-b"), row(report, "lab-c")
    assert lab_b == ["lab-b", "-", "39.1", "-", "-", "-", "1.386", "-", "49.8", "-", "-", "-"]
    assert lab_c[6:] == ["1.281", "0.804", "54.0", "71.9", "72.3", "-"]
    epochs = [e for e in read_json_lines(c6_run / "epochs.jsonl") if e["series"] == "sgd"]
    own = row(report, "SGD")
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
    assert row(report, "Adagrad")
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


@pytest.mark.slow
def test_c6_averages_over_seeds(tmp_path):
    arguments = ["--optimizers", "sgd", "--seeds", "0", "1", "--epochs", "1"]
    assert run(c6_optimizers.main, tmp_path, *arguments) == 0
    found = [epoch["loss"] for epoch in read_json_lines(tmp_path / "epochs.jsonl")]
    report = (tmp_path / "report.md").read_text()
    deviation = f"{np.mean(found):.3f} ± {np.std(found, ddof=1):.3f}"
    assert row(report, "SGD")[6] == row(report, "SGD")[7] == deviation
    assert "the standard deviation over 2 seeds" in report
    assert (tmp_path / "loss_by_epoch.png").exists()
