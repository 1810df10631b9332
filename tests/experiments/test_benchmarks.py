"""The benchmarks: what they write, how they compare, and what they say to bad input."""

import json
import statistics
from importlib.util import find_spec
from pathlib import Path

import pytest

from experiments import bench_input, bench_step
from tests.experiments.running import ROOT, command

HAS_TORCH = find_spec("torch") is not None
TINY_STEP = (
    *("--batch-size", "4", "--width", "8", "--image-size", "32"),
    *("--rounds", "2", "--steps-per-round", "1", "--warmup", "1"),
)
TINY_INPUT = (
    *("--data", "synthetic", "--train-images", "70", "--batch-size", "32", "--rounds", "2"),
    *("--workers", "0", "1"),
)


@pytest.fixture(scope="module")
def step_directory(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("bench_step") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CXX", "/no/such/compiler")  # compiling takes half a minute, failing does not
        assert command(bench_step.main, *TINY_STEP, "--out", path) == 0
    return path


@pytest.fixture(scope="module")
def input_directory(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("bench_input") / "run"
    assert command(bench_input.main, *TINY_INPUT, "--out", path) == 0
    return path


def read_results(directory: Path) -> dict:
    return json.loads((directory / "results.json").read_text())


def rates(contestant: dict) -> list[float]:
    return [answer["images"] / sum(answer["seconds"]) for answer in contestant["rounds"]]


def check_summary(results: dict, reference: list[float]) -> None:
    """The summary against medians and ratios of the raw answers, computed here."""
    for contestant, summary in zip(results["contestants"], results["summary"], strict=True):
        found = rates(contestant)
        relative = [a / b for a, b in zip(found, reference, strict=True)]
        for values, key in ((found, "images_per_second"), (relative, "relative_speed")):
            expected = [statistics.median(values), min(values), max(values)]
            assert [summary[key][name] for name in ("median", "low", "high")] == pytest.approx(
                expected
            )


@pytest.mark.slow
def test_bench_step_times_every_contestant(step_directory):
    results = read_results(step_directory)
    names = ["jaxresnet", "PyTorch eager"] if HAS_TORCH else ["jaxresnet"]
    assert [contestant["name"] for contestant in results["contestants"]] == names
    for contestant in results["contestants"]:
        assert [len(answer["seconds"]) for answer in contestant["rounds"]] == [1, 1]
        assert [answer["images"] for answer in contestant["rounds"]] == [4, 4]
        assert contestant["start"]["matrix_product_gflops"] > 0
        assert 100 < contestant["rounds"][-1]["peak_memory_mb"] < 10_000
    best = [rates(one) for one in results["contestants"] if one["pytorch"] or not HAS_TORCH]
    check_summary(results, [max(values) for values in zip(*best, strict=True)])
    assert results["settings"]["width"] == 8


@pytest.mark.slow
@pytest.mark.skipif(
    not HAS_TORCH, reason="PyTorch is not installed (extra: interop), so there is nothing to fail"
)
def test_a_torch_compile_that_fails_is_left_out_with_its_reason(step_directory):
    reason = read_results(step_directory)["left_out"]["PyTorch compiled"]
    assert "C++ compiler" in reason
    report = (step_directory / "report.md").read_text()
    assert "PyTorch compiled is left out, since it failed: " + reason.splitlines()[0] in report


@pytest.mark.parametrize(
    ("fixture", "first", "plot"),
    [
        pytest.param("step_directory", "jaxresnet", "step.png", marks=pytest.mark.slow),
        ("input_directory", "tf.data, workers 0", "input.png"),
    ],
)
def test_the_report_has_a_row_for_each_contestant_and_a_plot(fixture, first, plot, request):
    directory = request.getfixturevalue(fixture)
    report = (directory / "report.md").read_text()
    assert f"\n| {first} | " in report
    assert f"]({plot})" in report
    assert (directory / plot).read_bytes().startswith(b"\x89PNG")


def test_bench_input_times_whole_epochs(input_directory):
    results = read_results(input_directory)
    ours = ["tf.data, workers 0", "tf.data, workers 1", "resident"]
    theirs = ["PyTorch, workers 0", "PyTorch, workers 1"] if HAS_TORCH else []
    found = {contestant["name"]: rates(contestant) for contestant in results["contestants"]}
    assert list(found) == ours + theirs
    for contestant in results["contestants"]:
        assert [answer["images"] for answer in contestant["rounds"]] == [70, 70]
    check_summary(results, found[(theirs or ours[:1])[-1]])
    if HAS_TORCH:
        best = [
            max(found[name][index] for name in ours[:2])
            / max(found[name][index] for name in theirs)
            for index in range(2)
        ]
        assert results["best_to_best"]["median"] == pytest.approx(statistics.median(best))
        assert results["best_to_best"]["high"] == pytest.approx(max(best))


@pytest.mark.parametrize(
    ("main", "arguments", "message"),
    [
        (bench_step.main, ("--rounds", "0"), "--rounds must be at least 1, got 0"),
        (bench_step.main, ("--model", "vgg"), "unknown --model 'vgg': choose one of resnet18"),
        (bench_step.main, ("--steps-per-round", "0"), "--steps-per-round must be at least 1"),
        (bench_step.main, ("--torch-python", "/no/python"), "/no/python cannot import numpy and"),
        (bench_step.main, ("--out", str(ROOT / "tests")), "holds files but no run"),
        (bench_input.main, ("--rounds", "0"), "--rounds must be at least 1, got 0"),
        (bench_input.main, ("--workers", "1", "1"), "--workers names one twice: 1 1"),
        (bench_input.main, ("--workers", "-1"), "--workers must be at least 0, got -1"),
        (bench_input.main, (*TINY_INPUT, "--batches-per-round", "4"), "has only 3 batches of 32"),
    ],
)
def test_bad_options_are_named(main, arguments, message, capsys):
    assert command(main, *arguments) == 2
    assert message in capsys.readouterr().err


def test_an_interpreter_without_torch_is_refused(tmp_path, capsys):
    python = tmp_path / "python"
    error = "ModuleNotFoundError: No module named 'torch'"
    python.write_text(f'#!/bin/sh\necho "{error}" >&2\nexit 1')
    python.chmod(0o755)
    assert command(bench_step.main, "--torch-python", python) == 2
    error = capsys.readouterr().err
    assert f"{python} cannot import numpy and torch (ModuleNotFoundError: No module named" in error
