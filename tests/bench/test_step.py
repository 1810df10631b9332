"""The benchmark of a training step: what it writes, and what it says to bad input."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from experiments.bench import benchmark, step
from experiments.bench.contestant import Contestant
from tests.bench.results import HAS_TORCH, check_outputs, read_results
from tests.experiments.running import ROOT, command

TINY = (
    *("--batch-size", "4", "--width", "8", "--image-size", "32"),
    *("--rounds", "2", "--steps-per-round", "1", "--warmup", "1"),
)


@pytest.fixture(scope="module")
def directory(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("bench_step") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CXX", "/no/such/compiler")  # compiling takes half a minute, failing does not
        assert command(step.main, *TINY, "--out", path) == 0
    return path


@pytest.mark.slow
def test_every_contestant_is_timed(directory):
    check_outputs(directory, "step.png")
    results = read_results(directory)
    names = ["jaxresnet", "PyTorch eager"] if HAS_TORCH else ["jaxresnet"]
    assert [contestant["name"] for contestant in results["contestants"]] == names
    for contestant in results["contestants"]:
        assert [len(answer["seconds"]) for answer in contestant["rounds"]] == [1, 1]
        assert [answer["images"] for answer in contestant["rounds"]] == [4, 4]
        assert contestant["start"]["matrix_product_gflops"] > 0
        assert 100 < contestant["rounds"][-1]["peak_memory_mb"] < 10_000
    assert results["settings"]["all"]["width"] == 8


@pytest.mark.slow
@pytest.mark.skipif(
    not HAS_TORCH, reason="PyTorch is not installed (extra: interop), so there is nothing to fail"
)
def test_a_torch_compile_that_fails_is_left_out_with_its_reason(directory):
    reason = read_results(directory)["left_out"]["PyTorch compiled"]
    assert "C++ compiler" in reason
    report = (directory / "report.md").read_text()
    assert "PyTorch compiled is left out, since it failed: " + reason.splitlines()[0] in report


@pytest.mark.skipif(not HAS_TORCH, reason="PyTorch is not installed (extra: interop)")
@pytest.mark.parametrize("module", ["torch_step", "torch_input"])
def test_pytorch_is_measured_without_jax(module):
    if module == "torch_input":
        pytest.importorskip("PIL")
    code = f"import sys, experiments.bench.{module}; sys.exit('jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


def test_the_arithmetic_of_resnet18():
    # Products by hand, for one image: the stem, four stages, the linear layer.
    stem, stages, linear = 1_769_472, 150_994_944 + 3 * 134_217_728, 5_120
    expected = 2 * 128 * (3 * (stem + stages + linear) - stem) / 1e9
    assert step.step_gflop(step.StepSettings()) == pytest.approx(expected)


def made_up(seconds: list[float]) -> list[dict[str, Any]]:
    """A contestant's answers: two steps of 4 images in each round, each of so many seconds."""
    start = {
        "framework": "made up",
        "threads": 2,
        "first_step_seconds": 1.0,
        "process_settings": [],
        "matrix_product_gflops": 100.0,
    }
    return [start] + [
        {"seconds": [s, s], "images": 8, "page_faults": 6, "peak_memory_mb": 500} for s in seconds
    ]


def test_the_report_compares_with_the_fastest_of_pytorch_and_is_replaced(tmp_path, monkeypatch):
    jaxresnet = {"jaxresnet": made_up([0.2, 0.2, 0.2])}
    eager, compiled = made_up([0.4, 0.1, 0.4]), made_up([0.2, 0.8, 0.8])
    pytorch = jaxresnet | {"PyTorch eager": eager, "PyTorch compiled": compiled}
    broken = {name: [{"error": "it is broken\nmore"}] for name in pytorch} | jaxresnet
    row = "| 200.0 (200.0-200.0) | 20.0 | 1.00 (1.00-1.00) | 50.0 | 50 | 3 | 500 | 1.0 |"
    monkeypatch.setattr(step, "step_gflop", lambda _: 10.0)
    for answers, python, reference, part in [
        (jaxresnet, None, "jaxresnet", row),
        (jaxresnet, None, "jaxresnet", "PyTorch is not installed here"),
        (pytorch, "python", "the fastest of PyTorch", "| 20.0 | 1.00 (0.50-2.00) |"),
        (broken, "python", "jaxresnet", "it failed: it is broken\n"),
    ]:
        monkeypatch.setattr(benchmark, "find_torch", lambda _, python=python: python)
        monkeypatch.setattr(
            Contestant, "answers", lambda self, *_, answers=answers: (a for a in answers[self.name])
        )
        assert command(step.main, "--rounds", 3, "--out", tmp_path) == 0
        assert read_results(tmp_path)["compared_with"] == reference
        report = (tmp_path / "report.md").read_text()
        assert part in report
        assert ("PyTorch is not installed" in report) == (python is None)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--rounds", "0"), "--rounds must be at least 1"),
        (("--model", "vgg"), "unknown model 'vgg': choose one of resnet18"),
        (("--steps-per-round", "0"), "--steps-per-round must be at least 1"),
        (("--torch-python", "/no/python"), "/no/python cannot import numpy and"),
        (("--out", str(ROOT / "tests")), "holds files but no run"),
    ],
)
def test_bad_options_are_named(arguments, message, capsys):
    assert command(step.main, *arguments) == 2
    assert message in capsys.readouterr().err


def test_an_interpreter_without_torch_is_refused(tmp_path, capsys):
    python = tmp_path / "python"
    error = "ModuleNotFoundError: No module named 'torch'"
    python.write_text(f'#!/bin/sh\necho "{error}" >&2\nexit 1')
    python.chmod(0o755)
    assert command(step.main, "--torch-python", python) == 2
    error = capsys.readouterr().err
    assert f"{python} cannot import numpy and torch (ModuleNotFoundError: No module named" in error
