"""The proof against PyTorch: every case at a small size, and the command that runs them all."""

import importlib
import json
import re

import jax
import numpy as np
import pytest

pytest.importorskip("torch", reason="compares with PyTorch")

from experiments.checks.fidelity import distribution, optimizers, training
from experiments.checks.fidelity.__main__ import main
from experiments.checks.fidelity.layers import differences
from experiments.checks.fidelity.parts import PARTS, Comparison, Size, load_part, worst
from jaxresnet.data.sources import SOURCES
from jaxresnet.optim import OPTIMIZERS
from jaxresnet.train.log import read_json_lines
from tests.experiments.running import command

SMALL = Size(width=8, steps=5, batch_size=16, train_images=160, seeds=2)
DATASET = SOURCES["synthetic"].load(None, (SMALL.train_images, 10), lambda *_: None)
FAST_PARTS = ("layers", "optimizers", "data", "initialisation")
FAST_CASES = ("resnet18, cifar stem, norm batch, conv bias",)


def _cases():
    for part in PARTS:
        for case in load_part(part).cases(SMALL, DATASET):
            slow = part not in FAST_PARTS and case not in FAST_CASES
            yield pytest.param(part, case, marks=[pytest.mark.slow] * slow, id=f"{part}: {case}")


@pytest.fixture
def _standard_promotion():
    """Optax's Adam raises a float to an integer power, which strict promotion forbids."""
    with jax.numpy_dtype_promotion("standard"):
        yield


@pytest.mark.usefixtures("_standard_promotion")
@pytest.mark.parametrize(("name", "case"), list(_cases()))
def test_case_agrees_with_pytorch(name, case):
    part = load_part(name)
    measured = json.loads(json.dumps(part.cases(SMALL, DATASET)[case]()))
    assert measured
    if name != "distribution":  # a run there is compared with the others alone
        comparisons = part.compare({case: measured})
        assert comparisons
        assert [comparison for comparison in comparisons if not comparison.holds] == []


@pytest.mark.parametrize(
    ("value", "relation", "holds"),
    [(1, "≤", True), (2, "≤", True), (3, "≤", False), (3, "≥", True), (1, "≥", False)]
    + [(float("nan"), relation, False) for relation in "≤≥"],
)
def test_comparison_holds_within_its_bound(value, relation, holds):
    assert Comparison("x", value, 2, relation).holds is holds


def test_nan_is_a_difference():
    relative = differences({"x": np.array([1, np.nan])}, {"x": np.ones(2)})
    assert not Comparison("x", worst(relative.values()), 1).holds
    losses = {"here": [1.0, float("nan")], "PyTorch": [1.0, 1.0]}
    measured = {"dtype": "float64", **losses, "weights": float("nan")}
    comparisons = load_part("training").compare({"SGD": measured})
    assert [comparison.holds for comparison in comparisons] == [False, False]


@pytest.mark.parametrize(("deviations", "share"), [(0, 0.01), (1, 0.9)])
def test_distribution_notices_a_difference_with_the_power_that_it_states(deviations, share):
    seeds, runs = 16, 60
    shift = deviations * distribution.noticed_difference(1, seeds)
    generator = np.random.default_rng(0)
    noticed = 0
    for _ in range(runs):
        losses = generator.normal(size=(2, seeds, 1)) + np.array([shift, 0])[:, None, None]
        measured = {
            f"{side}, seed {seed}": losses[i, seed].tolist()
            for i, side in enumerate(distribution.SIDES)
            for seed in range(seeds)
        }
        noticed += not distribution.PART.compare(measured)[0].holds
    assert noticed / runs == pytest.approx(share, abs=3 * (share * (1 - share) / runs) ** 0.5)


def test_an_optimizer_that_pytorch_lacks_is_left_out(monkeypatch):
    with monkeypatch.context() as patch:
        patch.setitem(OPTIMIZERS, "new", OPTIMIZERS["sgd"]._replace(title="New"))
        part = importlib.reload(optimizers).PART
        assert "New" not in part.cases(SMALL, DATASET)
        assert re.search(r"Left out, since torch.optim has no such: .*New\.", part.note)
    assert "New" not in importlib.reload(optimizers).PART.note


def fidelity(directory, *arguments):
    return command(main, "--quick", "--out", directory, *arguments)


@pytest.fixture
def _restore_warnings(monkeypatch):
    monkeypatch.setattr("warnings.showwarning", lambda *_args, **_kwargs: None)


@pytest.mark.slow
@pytest.mark.usefixtures("_restore_warnings", "_standard_promotion")
def test_the_command_reports_what_it_compared(tmp_path, capsys, monkeypatch):
    size = ["--train-images", "256", "--steps", "2", "--batch-size", "16", "--seeds", "2"]
    assert fidelity(tmp_path, *size, "--parts", "data", "optimizers") == 0
    report = (tmp_path / "report.md").read_text()
    assert "comparisons hold (not run: layers, networks, initialisation" in report
    assert "256 synthetic images" in report

    # The parts already done are kept; a bound that is not met, as NaN never is, is named, with exit
    # status 1.
    monkeypatch.setitem(training.BOUNDS, "float64", float("nan"))
    assert fidelity(tmp_path, *size, "--parts", "training", "distribution") == 1
    assert "SGD, float64: losses" in capsys.readouterr().err
    report = (tmp_path / "report.md").read_text()
    assert "| NO |" in report
    assert PARTS["data"] in report
    for plot in ("training_float32.png", "training_float64.png", "distribution.png"):
        assert (tmp_path / plot).stat().st_size > 10_000
        assert f"({plot})" in report
    assert "With 2 seeds a side" in report

    lines = len(read_json_lines(tmp_path / "cases.jsonl"))
    assert fidelity(tmp_path, *size, "--parts", "data", "training", "distribution") == 1
    assert len(read_json_lines(tmp_path / "cases.jsonl")) == lines  # nothing is run again
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["held"] < summary["compared"]


@pytest.mark.usefixtures("_restore_warnings")
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--steps", "0"], "--steps must be at least 1, got 0"),
        (["--seeds", "1"], "--seeds must be at least 2, got 1"),
        (["--parts"], "--parts needs at least one value"),
        (["--parts", "data", "data"], "--parts has a value twice"),
        (["--train-images", "100"], "--train-images is 100"),
    ],
)
def test_bad_values_are_refused(arguments, message, tmp_path, capsys):
    assert fidelity(tmp_path / "run", *arguments) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
