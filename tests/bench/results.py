"""Reads what a benchmark wrote, and computes its summary anew."""

import json
import statistics
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

HAS_TORCH = find_spec("torch") is not None


def read_results(directory: Path) -> dict[str, Any]:
    return json.loads((directory / "results.json").read_text())


def rates(contestant: dict[str, Any]) -> list[float]:
    return [answer["images"] / sum(answer["seconds"]) for answer in contestant["rounds"]]


def fastest(contestants: list[dict[str, Any]]) -> list[float]:
    return [max(values) for values in zip(*map(rates, contestants), strict=True)]


def check_spread(spread: dict[str, float], values: list[float]) -> None:
    expected = {"median": statistics.median(values), "low": min(values), "high": max(values)}
    assert spread == pytest.approx(expected)


def check_outputs(directory: Path, plot: str) -> None:
    """The summary against the raw answers; a row for each contestant in the report, and a plot."""
    results, report = read_results(directory), (directory / "report.md").read_text()
    contestants = results["contestants"]
    rivals = [each for each in contestants if each["pytorch"]] or contestants[:1]
    for contestant, summary in zip(contestants, results["summary"], strict=True):
        pairs = zip(rates(contestant), fastest(rivals), strict=True)
        check_spread(summary["images_per_second"], rates(contestant))
        check_spread(summary["relative_speed"], [rate / rival for rate, rival in pairs])
        assert f"\n| {contestant['name']} | " in report
    assert f"]({plot})" in report
    assert (directory / plot).read_bytes().startswith(b"\x89PNG")
