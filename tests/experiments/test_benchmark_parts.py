"""The parts of the benchmarks: figures, contestants' processes, PyTorch's transforms."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable

import numpy as np
import pytest
from rich.console import Console

from experiments.benchmark.arithmetic import step_gflop
from experiments.benchmark.contest import Contest, Contestant, Result, last_words, run_contest
from experiments.benchmark.output import write_benchmark
from experiments.benchmark.step_report import StepContest, step_findings
from experiments.benchmark.summary import Spread, best_by_round, ratio, spread
from jaxresnet.errors import CheckFailed
from tests.experiments.running import ROOT

MODULE = "tests.experiments.benchmark_contestant"


def test_medians_and_ratios():
    assert spread([3.0, 1.0, 2.0]) == Spread(2.0, 1.0, 3.0)
    assert best_by_round([[1.0, 5.0], [2.0, 4.0]]) == [2.0, 5.0]
    # Round by round: the ratio of the medians would be 4 / 3.
    assert ratio([2.0, 4.0, 9.0], [4.0, 2.0, 3.0]) == Spread(2.0, 0.5, 3.0)
    assert Spread(2.0, 0.5, 3.0).cell(1) == "2.0 (0.5-3.0)"


def test_the_arithmetic_of_resnet18():
    # Products by hand, for one image: the stem, four stages, the linear layer.
    stem, stages, linear = 1_769_472, 150_994_944 + 3 * 134_217_728, 5_120
    expected = 2 * 128 * (3 * (stem + stages + linear) - stem) / 1e9
    assert step_gflop("resnet18", "cifar", 10, 64, 32, 128) == pytest.approx(expected)


def made_up(name: str, seconds: list[float], pytorch: bool) -> Result:
    """Two steps of 4 images in each round, each of so many seconds."""
    start = {
        "framework": name,
        "threads": 2,
        "first_step_seconds": 1.0,
        "process_settings": [],
        "matrix_product_gflops": 100.0,
    }
    answers = [
        {"seconds": [s, s], "images": 8, "page_faults": 6, "peak_memory_mb": 500} for s in seconds
    ]
    return Result(name, pytorch, start, answers)


def test_the_step_report_compares_with_the_fastest_of_pytorch_and_is_replaced(tmp_path):
    ours = made_up("ours", [0.2, 0.2, 0.2], pytorch=False)
    theirs = [made_up("A", [0.4, 0.1, 0.4], True), made_up("B", [0.2, 0.8, 0.8], True)]
    for results, base, row in [
        ([ours], "ours", "| 200.0 (200.0-200.0) | 20.0 | 1.00 (1.00-1.00) | 50.0 | 50 | 3 |"),
        ([ours, *theirs], "the fastest of PyTorch", "| 20.0 | 1.00 (0.50-2.00) |"),
    ]:
        contest = Contest(results, {"C": "it is broken\nmore"})
        findings = step_findings(
            StepContest("words", "float32", 10.0, contest, torch_found=len(results) > 1)
        )
        run = tmp_path / "run"
        write_benchmark(run, "bench_step", {"out": run}, contest, findings, Console(quiet=True))
        assert json.loads((run / "results.json").read_text())["compared_with"] == base
        report = (run / "report.md").read_text()
        assert row in report
        assert "C is left out, since it failed: it is broken\n" in report
        assert ("PyTorch is not installed here" in report) == (len(results) == 1)


@pytest.fixture
def contestant(tmp_path) -> Callable[..., Contestant]:
    def make(name: str, fails: str = "", pytorch: bool = False, sleep: float = 0) -> Contestant:
        files = {"log": str(tmp_path / "log"), "pid_file": str(tmp_path / f"pid_{name}")}
        settings = {"name": name, "fails": fails, "sleep": sleep, **files}
        return Contestant(name, MODULE, settings, pytorch=pytorch)

    return make


def test_contestants_run_in_turn_and_those_of_pytorch_that_fail_are_left_out(contestant, tmp_path):
    told: list[str] = []
    contestants = [
        contestant("A"),
        contestant("B", "at once", pytorch=True),
        contestant("C", "later", pytorch=True),
        contestant("D", pytorch=True),
    ]
    contest = run_contest(contestants, 3, 4, told.append)
    assert (tmp_path / "log").read_text() == "ACDADAD"
    assert [result.name for result in contest.results] == ["A", "D"]
    assert [result.rates for result in contest.results] == [[6.0] * 3] * 2
    assert contest.left_out["B"] == "ValueError: a made-up failure"
    assert contest.left_out["C"].startswith("ended by signal 9")
    assert "B: left out, it failed:\nValueError: a made-up failure" in told


def test_a_failure_of_our_own_ends_the_benchmark(contestant):
    with pytest.raises(CheckFailed, match="A failed:\nValueError: a made-up failure"):
        run_contest([contestant("A", "at once")], 1, 1, lambda _: None)


def test_ctrl_c_ends_the_contestants(contestant, tmp_path):
    script = (
        "import signal\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # a shell may have it ignored
        "from experiments.benchmark.contest import Contestant, run_contest\n"
        f"one = Contestant('A', {MODULE!r}, {contestant('A', sleep=60).settings!r})\n"
        "run_contest([one], 1, 1, print)"
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


def test_the_end_of_an_error_output():
    trace = "Traceback:\n  File a\n    raise\nmodule.Error: broken\n\nTry this"
    assert last_words(trace) == "module.Error: broken\nTry this"
    assert last_words("1\n2\n3\n4\n5\n6") == "2\n3\n4\n5\n6"
    assert last_words("") == ""


def test_the_transforms_are_torchvisions():
    torch = pytest.importorskip("torch")
    image_module = pytest.importorskip("PIL.Image")
    from experiments.benchmark.torch_input import PlainTransform
    from experiments.pytorch.training import torch_normalise
    from jaxresnet.data.augment import CIFAR10_MEAN, CIFAR10_STD

    image = np.random.default_rng(0).integers(256, size=(32, 32, 3), dtype=np.uint8)
    transform = PlainTransform(CIFAR10_MEAN, CIFAR10_STD, 4)
    torch.manual_seed(0)
    for _ in range(8):
        state = torch.get_rng_state()
        found = transform(image_module.fromarray(image))
        torch.set_rng_state(state)
        top, left = (int(torch.randint(0, 9, (1,))) for _ in range(2))
        crop = np.pad(image, ((4, 4), (4, 4), (0, 0)))[top : top + 32, left : left + 32]
        expected = crop[:, ::-1] if torch.rand(1) < 0.5 else crop
        np.testing.assert_array_equal(found, torch_normalise(expected[None])[0])
