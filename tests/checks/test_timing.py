"""Stall and computation against a loader and a device whose times are known."""

import json

import pytest

from experiments.checks import timing
from experiments.checks.ground_truth import Case, run_case
from jaxresnet.train.clock import StepWatcher
from tests.experiments.running import command

STEP, STEPS = 0.06, 5
TOLERANCE = 0.08 * STEP * STEPS  # less than the stall at the ratio 1.1


@pytest.mark.parametrize("ratio", timing.CheckSettings().ratios)
@pytest.mark.parametrize("kind", timing.KINDS)
def test_stall_and_compute_are_what_they_are_known_to_be(kind, ratio):
    """On a machine that is busy with other tests."""
    case = Case(ratio * STEP, STEP, **timing.KINDS[kind])
    measured, true = run_case(case, STEPS + 1)
    assert abs(measured.stall - true.stall) < TOLERANCE
    assert abs(measured.compute - true.compute) < TOLERANCE
    # The truth itself: a device and a loader take no less than they were told to.
    assert true.compute >= STEPS * STEP
    if case.sync or case == Case(case.delay, STEP):  # nothing overlaps
        assert true.stall >= STEPS * case.delay


def test_the_stall_grows_with_the_delay():
    stalls = [
        run_case(Case(ratio * STEP, STEP, dispatched=True, ahead=True), STEPS + 1)[0].stall
        for ratio in (0.9, 1.2, 2, 5)
    ]
    assert stalls == sorted(stalls)
    assert stalls[-1] >= 3.5 * STEP * STEPS


def test_waiting_for_each_step_makes_all_loading_a_stall():
    waits, runs_ahead = (
        run_case(Case(STEP / 2, STEP, dispatched=True, sync=sync), STEPS + 1)[0]
        for sync in (True, False)
    )
    assert waits.stall >= 0.9 * STEPS * STEP / 2
    assert runs_ahead.stall < 0.2 * STEPS * STEP


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
    arguments = ["--ratios", "0.5", "--step-seconds", "0.1", "--steps", "3"]
    assert command(timing.main, *arguments, "--out", tmp_path) == 1
    assert "from the intended one (is the machine busy?): dispatched, in line, ratio 0.5" in (
        capsys.readouterr().err
    )
