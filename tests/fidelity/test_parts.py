"""The other parts of the proof, small; and the command that runs them."""

import json
from pathlib import Path

import jax
import numpy as np
import pytest

pytest.importorskip("torch", reason="compares with PyTorch")

from experiments.fidelity import distribution, training
from experiments.fidelity.__main__ import main
from experiments.fidelity.comparison import Comparison, relative_difference
from experiments.fidelity.data import compare_data
from experiments.fidelity.initialisation import compare_initialisation
from experiments.fidelity.layers import compare_layers
from experiments.fidelity.optimizers import compare_optimizers
from jaxresnet.data.synthetic import load_synthetic
from jaxresnet.optim import optimizer_names
from jaxresnet.train.metrics import read_json_lines
from tests.experiments.running import command


def failures(comparisons: list[Comparison]) -> list[Comparison]:
    assert comparisons
    return [comparison for comparison in comparisons if not comparison.holds]


def test_layers_are_pytorchs():
    assert failures(compare_layers()) == []


def test_optimizers_are_pytorchs():
    # Optax's Adam raises a float to an integer power, which strict promotion forbids.
    with jax.numpy_dtype_promotion("standard"):
        assert failures(compare_optimizers()) == []


def test_initial_weights_are_drawn_as_pytorch_draws_them():
    assert failures(compare_initialisation()) == []


def test_images_arrive_as_pytorchs_transforms_make_them():
    assert failures(compare_data(load_synthetic(500, 10).train)) == []


@pytest.mark.parametrize(
    ("dtype", "steps", "optimizers"),
    [
        pytest.param("float32", 12, ["sgd", "adam"], marks=pytest.mark.slow),
        pytest.param("float64", 5, list(training.RATES), marks=pytest.mark.slow),
    ],
)
def test_losses_are_pytorchs_step_by_step(dtype, steps, optimizers, tmp_path, monkeypatch):
    monkeypatch.setattr(training, "RATES", {name: training.RATES[name] for name in optimizers})
    said: list[str] = []
    arguments = {"width": 8, "batch_size": 16, "steps": steps, "log": tmp_path / "log.jsonl"}
    split = load_synthetic(200, 10).train
    with jax.numpy_dtype_promotion("standard"):
        curves = training.train_curves(split, dtype, **arguments, say=said.append)
        assert failures([pair.compare() for pair in curves]) == []
        assert [pair.optimizer for pair in curves] == optimizers
        assert all(len(pair.here) == steps for pair in curves)
        assert len(said) == len(optimizers)
        again = training.train_curves(split, dtype, **arguments, say=said.append)
    assert len(said) == len(optimizers)  # what the log has is not repeated
    assert again == curves


def test_a_difference_beyond_its_bound_does_not_hold():
    assert Comparison("x", 1e-6, 1e-5).holds
    assert not Comparison("x", 2e-5, 1e-5).holds
    assert not Comparison("x", float("nan"), 1e-5).holds
    # A NaN anywhere is no agreement; Python's max would pass over it.
    curves = training.Curves("sgd", "float32", [1.0, float("nan")], [1.0, 1.0])
    assert not curves.compare().holds
    assert not Comparison("x", relative_difference([1.0, np.nan], [1.0, 1.0]), 1.0).holds
    assert relative_difference(np.array([1.0, 2.2]), np.array([1.0, 2.0])) == pytest.approx(0.1)


def test_means_further_apart_than_seeds_are_noticed():
    def runs(shift: float) -> list[distribution.Run]:
        return [
            distribution.Run(side, seed, [2.0 + 0.1 * seed + offset] * 30)
            for side, offset in zip(distribution.SIDES, (0.0, shift), strict=True)
            for seed in range(3)
        ]

    assert failures(distribution.compare_runs(runs(0.15))) == []
    assert len(failures(distribution.compare_runs(runs(0.25)))) == 2
    # One run gone wrong here does not widen its own bound.
    outlier = distribution.Run(distribution.SIDES[0], 3, [9.0] * 30)
    assert len(failures(distribution.compare_runs([*runs(0.0), outlier]))) == 2


def test_every_optimizer_is_trained_against_pytorch():
    assert set(training.RATES) == set(optimizer_names())


def fidelity(directory: Path, *arguments: str) -> int:
    return command(main, "--quick", "--out", directory, *arguments)


@pytest.fixture
def _restore_warnings(monkeypatch):
    monkeypatch.setattr("warnings.showwarning", lambda *_args, **_kwargs: None)


@pytest.mark.slow
@pytest.mark.usefixtures("_restore_warnings")
def test_the_command_reports_what_it_compared(tmp_path, capsys, monkeypatch):
    size = ["--train-images", "256", "--steps", "2", "--batch-size", "16"]
    parts = ["--parts", "data", "initialisation"]
    assert fidelity(tmp_path, *size, *parts) == 0
    report = (tmp_path / "report.md").read_text()
    assert "12 of 12 comparisons hold" in report
    assert "256 synthetic images" in report
    assert "| labels of that epoch that are wrong | 0 | 0 | yes |" in report

    # The parts already done are kept; a bound that is not met is named, with exit status 1.
    monkeypatch.setitem(training.BOUNDS, "float64", 1e-20)
    monkeypatch.setattr(training, "RATES", {"sgd": 1e-3})
    assert fidelity(tmp_path, *size, "--parts", "training", "distribution") == 1
    assert "SGD: losses of 2 steps, float64" in capsys.readouterr().err
    report = (tmp_path / "report.md").read_text()
    assert "| NO |" in report
    assert "labels of that epoch that are wrong" in report
    for plot in ("training_float32.png", "training_float64.png", "distribution.png"):
        assert (tmp_path / plot).stat().st_size > 10_000
        assert f"({plot})" in report
    assert "| jaxresnet | std. dev. |" in report
    capsys.readouterr()
    assert fidelity(tmp_path, *size, "--parts", *parts[1:], "training", "distribution") == 1
    assert "…" not in capsys.readouterr().out  # nothing is run again
    runs = read_json_lines(tmp_path / "distribution.jsonl")
    assert [(run["side"], run["seed"]) for run in runs] == [
        (side, seed) for seed in (0, 1, 2) for side in distribution.SIDES
    ]
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["held"] < summary["compared"]


@pytest.mark.usefixtures("_restore_warnings")
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--steps", "0"], "--steps must be at least 1, got 0"),
        (["--seeds", "-1"], "--seeds must be at least 0, got -1"),
        (["--seeds", "1"], "--seeds needs at least two"),
        (["--seeds", "1", "1"], "--seeds names one twice: 1 1"),
        (["--train-images", "100"], "--train-images is 100"),
    ],
)
def test_bad_values_are_refused(arguments, message, tmp_path, capsys):
    assert fidelity(tmp_path / "run", *arguments) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
