"""Q1 to Q4."""

import json
import subprocess
import sys

import pytest

from experiments import q_parameters


@pytest.fixture(scope="module")
def report(tmp_path_factory) -> str:
    directory = tmp_path_factory.mktemp("q") / "run"
    q_parameters.main(["--out", str(directory)])
    counts = json.loads((directory / "summary.json").read_text())
    assert (counts["convolutions"], counts["shortcuts"]) == (20, 3)
    assert counts["last_linear_input"] == 512
    assert counts["parameters"] == counts["gradients"] == 11_173_962
    assert counts["parameters_without_norm"] == 11_164_362
    # Adam's one more counts the steps.
    assert counts["state"] == {
        "sgd": 11_173_962,
        "nesterov": 11_173_962,
        "adagrad": 11_173_962,
        "adadelta": 2 * 11_173_962,
        "adam": 2 * 11_173_962 + 1,
    }
    return (directory / "report.md").read_text()


def test_the_report_shows_counts_answers_and_layers(report):
    assert "| Q1: convolutions | 20 | 16 | 17 (20 with shortcuts) | 46 |" in report
    assert "| Q3: parameters, SGD | 11,173,962 | 11,180,968 | 11,173,962 | 11,173,962 |" in report
    assert "| Conv2d-17 | [-1, 128, 16, 16] | 8,192 |" in report
    assert "| ResNet-50 | [-1, 10] | 0 |" in report
    assert "| ResNet-30 | [-1, 10] | 0 |" in report
    assert "(published: 11.25)" in report


def test_the_experiments_are_listed_with_a_line_each():
    listing = subprocess.run(
        [sys.executable, "-m", "experiments"], capture_output=True, text=True, check=True
    ).stdout
    for name in ("c1_training", "c2_timing", "c6_optimizers", "c7_no_batch_norm", "q_parameters"):
        assert f"python -m experiments.{name} " in listing
