"""Contestants take turns in processes of their own, and some may fail."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable

import pytest

from experiments.bench.contest import Contest, Contestant, Result, run_contest
from jaxresnet.errors import CheckFailed
from tests.experiments.running import ROOT

MODULE = "tests.bench.contestant"


def made_up(name: str, seconds: list[float], pytorch: bool) -> Result:
    """One image in each round, in so many seconds."""
    return Result(name, pytorch, {}, [{"seconds": [s], "images": 1} for s in seconds])


def test_speeds_are_relative_to_the_fastest_of_pytorch_round_by_round():
    jaxresnet = made_up("jaxresnet", [1, 2, 1], pytorch=False)
    pytorch = [made_up("A", [2, 1, 4], True), made_up("B", [4, 4, 2], True)]
    contest = Contest([jaxresnet, *pytorch], {})
    assert contest.reference == "the fastest of PyTorch"
    assert contest.relative_speed(jaxresnet) == [2, 0.5, 2]
    assert contest.relative_speed(*pytorch) == [1, 1, 1]


def test_without_pytorch_speeds_are_relative_to_the_first():
    contest = Contest([made_up("A", [2], pytorch=False), made_up("B", [1], pytorch=False)], {})
    assert contest.reference == "A"
    assert [contest.relative_speed(result) for result in contest.results] == [[1], [2]]


@pytest.fixture
def contestant(tmp_path) -> Callable[..., Contestant]:
    def make(name: str, fails: str = "", pytorch: bool = False, sleep: float = 0) -> Contestant:
        files = {"log": str(tmp_path / "log"), "pid_file": str(tmp_path / f"pid_{name}")}
        settings = {"name": name, "fails": fails, "sleep": sleep, **files}
        return Contestant(name, MODULE, settings, pytorch)

    return make


def test_contestants_run_in_turn_and_those_of_pytorch_that_fail_are_left_out(contestant, tmp_path):
    told: list[str] = []
    contestants = [
        contestant("A"),
        contestant("B", "at once", pytorch=True),
        contestant("C", "later", pytorch=True),
        contestant("D", pytorch=True),
    ]
    contest = run_contest(contestants, 3, 4, sys.executable, told.append)
    assert (tmp_path / "log").read_text() == "ACDADAD"
    assert [result.name for result in contest.results] == ["A", "D"]
    assert [result.rates for result in contest.results] == [[6.0] * 3] * 2
    assert contest.left_out["B"] == "ValueError: a made-up failure"
    assert contest.left_out["C"].startswith("ended with status -9")
    assert "B: left out, it failed:\nValueError: a made-up failure" in told


def test_a_failure_of_this_project_ends_the_benchmark(contestant):
    with pytest.raises(CheckFailed, match="A failed:\nValueError: a made-up failure"):
        run_contest([contestant("A", "at once")], 1, 1, None, lambda _: None)


def test_ctrl_c_ends_the_contestants(contestant, tmp_path):
    script = (
        "import signal\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # a shell may have it ignored
        "from experiments.bench.contest import Contestant, run_contest\n"
        f"slow = Contestant('A', {MODULE!r}, {contestant('A', sleep=60).settings!r})\n"
        "run_contest([slow], 1, 1, None, print)"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", script]
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        while not (tmp_path / "log").exists():
            assert process.poll() is None
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        assert "KeyboardInterrupt" in process.communicate(timeout=20)[1]
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid_A").read_text()), 0)
