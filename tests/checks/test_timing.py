"""Stall and computation against a loader and a device whose times are known."""

import json

import pytest

from experiments.checks import timing
from experiments.checks.ground_truth import run_case
from jaxresnet.train.clock import StepWatcher
from tests.experiments.running import command

STEP, STEPS = 0.06, 5
TOLERANCE = 0.08 * STEP  # less than the stall at the ratio 1.1


@pytest.mark.parametrize("ratio", timing.CheckSettings().ratios)
@pytest.mark.parametrize("kind", timing.KINDS)
def test_stall_and_compute_are_what_they_are_known_to_be(kind, ratio):
    """On a machine that is busy with other tests."""
    outcome = run_case(kind, ratio, STEP, STEPS)
    assert abs(outcome.stall - outcome.true_stall) < TOLERANCE
    assert abs(outcome.compute - outcome.true_compute) < TOLERANCE
    # The truth itself: a device and a loader take no less than they were told to.
    assert outcome.true_compute >= STEP
    if kind in ("dispatched, in line, --sync-each-step", "run by the call, in line"):
        assert outcome.true_stall >= ratio * STEP == outcome.intended_stall  # nothing overlaps
    else:
        assert outcome.intended_stall == max(0, ratio * STEP - STEP)


def test_the_stall_grows_with_the_delay():
    ratios = 0.9, 1.2, 2, 5
    stalls = [run_case("dispatched, ahead", ratio, STEP, STEPS).stall for ratio in ratios]
    assert stalls == sorted(stalls)
    assert stalls[-1] >= 3.5 * STEP


def test_waiting_for_each_step_makes_all_loading_a_stall():
    waits = run_case("dispatched, in line, --sync-each-step", 0.5, STEP, STEPS)
    runs_ahead = run_case("dispatched, in line", 0.5, STEP, STEPS)
    assert waits.stall >= 0.9 * STEP / 2
    assert runs_ahead.stall < 0.2 * STEP


def test_the_check_reports_each_case_and_fails_beyond_its_bound(tmp_path, monkeypatch, capsys):
    arguments = ["--ratios", "0.5", "2", "--step-seconds", "0.02", "--steps", "3"]
    monkeypatch.setattr(timing, "BOUND", 10.0)
    monkeypatch.setattr(timing, "STRAY_BOUND", 10.0)
    assert command(timing.main, *arguments, "--out", tmp_path) == 0
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert len(summary["cases"]) == 2 * len(timing.KINDS)
    assert 0 < summary["instrument_seconds_per_step"] < 0.02
    report = (tmp_path / "report.md").read_text()
    assert "| dispatched, ahead, 2 | 20.00 |" in report
    assert (tmp_path / "errors.png").exists()
    monkeypatch.setattr(timing, "BOUND", -1.0)
    assert command(timing.main, *arguments, "--out", tmp_path, "--fresh") == 1
    assert "from the truth: dispatched, in line, ratio 0.5;" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("ratios", "message"),
    [(["0"], "--ratios must be above 0"), ([], "--ratios needs at least one number")],
)
def test_bad_options_are_named(ratios, message, tmp_path, capsys):
    assert command(timing.main, "--out", tmp_path, "--ratios", *ratios) == 2
    assert message in capsys.readouterr().err


def test_the_check_fails_where_the_loop_does_not_run_ahead(tmp_path, monkeypatch, capsys):
    """Then all that the loader takes is a stall: rightly measured, but not what should be."""
    take_step = StepWatcher.take_step
    monkeypatch.setattr(StepWatcher, "take_step", lambda *args, **_: take_step(*args, sync=True))
    monkeypatch.setattr(timing, "BOUND", 10.0)  # the machine may be busy with other tests
    arguments = ["--ratios", "0.5", "--step-seconds", "0.1", "--steps", "3"]
    assert command(timing.main, *arguments, "--out", tmp_path) == 1
    assert "from the intended one (is the machine busy?): dispatched, in line, ratio 0.5" in (
        capsys.readouterr().err
    )
