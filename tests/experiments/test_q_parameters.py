"""Q1 to Q4."""

import importlib
import json
import subprocess
import sys
from pathlib import Path

import jax
import pytest
from flax import nnx

from experiments import q_parameters
from jaxresnet.models.resnet import create_model
from jaxresnet.optim import OptimizerOptions
from jaxresnet.train.state import create_state, split_model


@pytest.fixture(scope="module")
def directory(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("q") / "run"
    q_parameters.main(["--out", str(path)])
    return path


def test_the_counts_are_right(directory):
    counts = json.loads((directory / "summary.json").read_text())
    assert (counts["convolutions"], counts["shortcuts"]) == (20, 3)
    assert counts["last_linear_input"] == 512
    assert counts["parameters"] == counts["gradients"] == 11_173_962
    assert counts["parameters_without_norm"] == 11_164_362
    assert (
        counts["state"].items()
        >= {
            "sgd": 11_173_962,
            "nesterov": 11_173_962,
            "adagrad": 11_173_962,
            "adadelta": 2 * 11_173_962,
            "adam": 2 * 11_173_962 + 1,  # one more counts the steps
        }.items()
    )


def test_the_state_that_is_reported_is_what_is_allocated(directory):
    counts = json.loads((directory / "summary.json").read_text())
    _, params, batch_stats = split_model(create_model("resnet18", rngs=nnx.Rngs(0)))
    for name, values in counts["state"].items():
        optimizer = OptimizerOptions(optimizer=name).create(1, 1)
        state = create_state(params, batch_stats, optimizer)
        arrays = jax.tree.leaves(state.opt_state)
        assert sum(array.nbytes for array in arrays) == 4 * values
        assert {array.dtype.itemsize for array in arrays} == {4}


def test_the_report_shows_counts_answers_and_layers(directory):
    report = (directory / "report.md").read_text()
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
    for name in ("c1_training", "c2_timing", "c6_optimizers", "c7_no_batch_norm", "q_parameters",
        "r1_parameters", "r5_memory", "convert_weights", "evaluate", "checks.fidelity",
    ):  # fmt: skip
        assert f"python -m experiments.{name} " in listing


@pytest.mark.parametrize(
    "name", ["c2_timing", "c6_optimizers", "c7_no_batch_norm", "q_parameters", "r5_memory"]
)
def test_help_needs_no_tensorflow(name, capsys):
    module = importlib.import_module(f"experiments.{name}")
    with pytest.raises(SystemExit) as ended:
        module.main(["--help"])
    assert ended.value.code == 0
    assert "--out" in capsys.readouterr().out


def test_tensorflow_is_imported_only_where_it_is_used(tmp_path):
    script = (
        "import sys; from experiments import c6_optimizers, q_parameters; "
        f"q_parameters.main(['--out', {str(tmp_path)!r}]); "
        "sys.exit('tensorflow' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script], check=True, capture_output=True)
