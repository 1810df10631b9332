"""The sentences of the reports about time, from known times."""

from pathlib import Path

import pytest

from experiments import c4_profiling
from experiments.harness.controls import Controls, describe_bounds
from experiments.harness.results import Results, Series
from experiments.harness.settings import make_variants
from jaxresnet.data.sources import ImageOptions, load_dataset
from jaxresnet.options import replace_options

# (input stall, computation) of each of two trainings: with 1 worker, then with 4.
SLOW_INPUT = [(6.0, 10.0), (6.2, 10.0)], [(1.0, 10.0), (1.1, 10.1)]
SLOW_COMPUTATION = [(1.0, 14.0), (1.0, 14.2)], [(0.9, 10.0), (0.8, 10.1)]
CHANCE = [(1.0, 10.0), (1.0, 14.0)], [(1.0, 10.0), (1.0, 11.0)]


def c4_report(directory: Path, numbers: list[int], times, best: int = 4) -> str:
    """What C4 says of trainings of one epoch with so many workers."""
    settings = replace_options(c4_profiling.C4Settings(), epochs=1, repeats=len(times[0]))
    variants = make_variants(settings, workers=numbers)
    lines = [
        {"input_wait": stall, "input_stall": stall, "compute": compute, "seconds": stall + compute}
        for repeat in zip(*times, strict=True)
        for stall, compute in repeat
    ]
    start = {"machine": "here", "revision": "abc"}
    series = [
        Series(variant, [line], [], [start], [])
        for variant, line in zip(variants, lines, strict=True)
    ]
    images = ImageOptions(data="synthetic", train_images=128, eval_images=8)
    dataset = load_dataset(images, on_progress=print, warn=print)
    results = Results(directory, settings, dataset, series, [])
    return c4_profiling.report(results, best, "--best").to_markdown()


@pytest.mark.parametrize(
    ("times", "sentence"),
    [
        (SLOW_INPUT, "more than equal trainings differ, and most of it is waiting for input"),
        (SLOW_COMPUTATION, "more than equal trainings differ, and most of it is computation"),
        (CHANCE, "no more than equal trainings differ"),
    ],
)
def test_c4_says_what_the_workers_changed(times, sentence, tmp_path):
    assert sentence in c4_report(tmp_path, [1, 4], times)


def test_c4_gives_the_medians_of_each_number(tmp_path):
    text = c4_report(tmp_path, [1, 4], SLOW_INPUT)
    assert "stood idle for 6.10 of 16.10 s (37.9%)" in text
    assert "the whole took 11.10 s, 0.689 of the time" in text
    assert "the stall changed by -5.05 s, the computation by +0.05 s" in text


def test_c4_says_when_there_is_nothing_to_compare(tmp_path):
    once = [times[:1] for times in SLOW_INPUT]
    assert "Without repeats chance cannot be told" in c4_report(tmp_path, [1, 4], once)
    assert "The training with 4 did not end." in c4_report(tmp_path, [1], once[:1])
    assert "That is the best number here" in c4_report(tmp_path, [1], once[:1], best=1)


@pytest.mark.parametrize(
    ("epochs", "place"),
    [
        ([9.0, 10.5, 12.0], "the median took 10.50 s (9.00 to 12.00), within the bounds"),
        ([13.2], "the one measured took 13.20 s, 10.0% above the upper bound. It was the first"),
        ([8.0], "20.0% below the lower bound"),
    ],
)
def test_c2_says_where_an_epoch_lies_between_its_controls(epochs, place):
    # Ten batches of a second each, or two seconds of loading: 10 to 12 s.
    controls = Controls([1.0, 1.0, 1.5], [5.0, 2.0, 1.9, 2.1], 10)
    finding = describe_bounds(controls, epochs, is_first=len(epochs) == 1)
    assert "at least 10.00 and at most 12.00 s" in finding
    assert place in finding
