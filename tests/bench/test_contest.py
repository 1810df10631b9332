"""Contestants take turns in processes of their own, and some may fail."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from experiments.bench import benchmark as benchmark_module
from experiments.bench.benchmark import Benchmark, ContestOptions
from experiments.bench.contestant import Contestant
from jaxresnet.errors import CheckFailed
from tests.experiments.running import ROOT

MODULE = "tests.bench.contestant"


def made_up(name: str, seconds: list[float], pytorch: bool) -> Contestant:
    """One image in each round, in so many seconds."""
    rounds = [{"seconds": [s], "images": 1} for s in seconds]
    return Contestant(name, "", {}, pytorch, {}, rounds)


def test_speeds_are_relative_to_the_fastest_of_pytorch_round_by_round():
    jaxresnet = made_up("jaxresnet", [1, 2, 1], pytorch=False)
    pytorch = [made_up("A", [2, 1, 4], True), made_up("B", [4, 4, 2], True)]
    benchmark = Benchmark("bench_test", ContestOptions())
    benchmark.results = [jaxresnet, *pytorch]
    assert benchmark.reference == "the fastest of PyTorch"
    assert benchmark.relative_speed(jaxresnet) == [2, 0.5, 2]
    assert benchmark.relative_speed(*pytorch) == [1, 1, 1]


def test_without_pytorch_speeds_are_relative_to_the_first():
    benchmark = Benchmark("bench_test", ContestOptions())
    benchmark.results = [made_up("A", [2], pytorch=False), made_up("B", [1], pytorch=False)]
    assert benchmark.reference == "A"
    assert [benchmark.relative_speed(result) for result in benchmark.results] == [[1], [2]]


@pytest.fixture
def contestant(tmp_path) -> Callable[..., Contestant]:
    def make(name: str, fails: str = "", pytorch: bool = False, sleep: float = 0) -> Contestant:
        files = {"log": str(tmp_path / "log"), "pid_file": str(tmp_path / f"pid_{name}")}
        settings = {"name": name, "fails": fails, "sleep": sleep, **files}
        return Contestant(name, MODULE, settings, pytorch)

    return make


def run(contestants: list[Contestant], count: int, out: Path) -> Benchmark:
    """Three rounds, with a PyTorch that is this interpreter."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(benchmark_module, "find_torch", lambda _: sys.executable)
        benchmark = Benchmark("bench_test", ContestOptions(rounds=3, out=out))
    benchmark.run("made up", "", contestants, count)
    return benchmark


def test_contestants_run_in_turn_and_those_of_pytorch_that_fail_are_left_out(
    contestant, tmp_path, capsys
):
    contestants = [
        contestant("A"),
        contestant("B", "at once", pytorch=True),
        contestant("C", "later", pytorch=True),
        contestant("D", pytorch=True),
    ]
    benchmark = run(contestants, 1, tmp_path / "run")
    assert (tmp_path / "log").read_text() == "ACDADAD"
    assert [result.name for result in benchmark.results] == ["A", "D"]
    assert benchmark.left_out["B"] == "ValueError: a made-up failure"
    assert benchmark.left_out["C"].startswith("ended by signal 9")
    assert "B: left out, it failed:\nValueError: a made-up failure" in capsys.readouterr().out


def test_each_repetition_is_timed(contestant, tmp_path):
    (result,) = run([contestant("A", sleep=0.02)], 4, tmp_path / "run").results
    assert result.start["name"] == "A"
    assert [answer["images"] for answer in result.rounds] == [12] * 3
    assert [len(answer["seconds"]) for answer in result.rounds] == [4] * 3
    assert all(seconds >= 0.02 for seconds in result.seconds)
    assert all(rate <= 3 / 0.02 for rate in result.rates)


def test_a_failure_of_this_project_ends_the_benchmark(contestant, tmp_path):
    with pytest.raises(CheckFailed, match="A failed:\nValueError: a made-up failure"):
        run([contestant("A", "at once")], 1, tmp_path / "run")


def test_ctrl_c_ends_the_contestants(contestant, tmp_path):
    script = (
        "import signal\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # a shell may have it ignored
        "from experiments.bench.benchmark import Benchmark, ContestOptions\n"
        "from experiments.bench.contestant import Contestant\n"
        f"slow = Contestant('A', {MODULE!r}, {contestant('A', sleep=60).settings!r})\n"
        "Benchmark('bench_test', ContestOptions()).run('slow', 'slow', [slow])"
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
