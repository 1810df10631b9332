"""What bench_input says about its contest."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from experiments.benchmark.contest import Contest, Result
from experiments.benchmark.output import Findings
from experiments.benchmark.summary import Spread, best_by_round, ratio, spread
from jaxresnet import platform
from jaxresnet.report.tables import Table, seconds

PLOT = "input.png"

_COLUMNS = ("contestant", "images/s\n(range)", "relative\nspeed (range)", "set-up s")
_NOTE = (
    "Medians over the rounds, with the least and the greatest. Relative speed: images/s over those "
    "of {base} in the same round; above 1 is faster. A round is a new epoch of {batches:,} "
    "batches, with the start and the end of its workers. Set-up: making the loader and the first "
    "batches."
)


@dataclass(frozen=True)
class InputContest:
    """words: what is fed. batches: in each round."""

    words: str
    batches: int
    contest: Contest
    torch_found: bool


def input_findings(of: InputContest) -> Findings:
    """Each contestant against PyTorch's last one, or the first of all where there is none."""
    results = of.contest.results
    ours = [result for result in results if result.start["transforms"] == "tfdata"]
    theirs = [result for result in results if result.pytorch]
    base = theirs[-1] if theirs else results[0]
    best = best_to_best(ours, theirs) if theirs else None
    rows = [
        [
            result.name,
            spread(result.rates).cell(0),
            ratio(result.rates, base.rates).cell(2),
            seconds(result.start["set_up_seconds"]),
        ]
        for result in results
    ]
    title = f"Input: {of.words}"
    table = Table(title, _COLUMNS, rows, _NOTE.format(base=base.name, batches=of.batches))
    values = {
        "compared_with": base.name,
        "best_to_best": None if best is None else asdict(best),
        "summary": [_summary(result, base) for result in results],
    }
    return Findings(title, _introduction(of, best), [table], values, PLOT, f"Input\n{of.words}")


def best_to_best(ours: Sequence[Result], theirs: Sequence[Result]) -> Spread:
    """In each round the fastest of ours against the fastest of theirs."""
    best_of_ours, best_of_theirs = (
        best_by_round([result.rates for result in side]) for side in (ours, theirs)
    )
    return ratio(best_of_ours, best_of_theirs)


def _introduction(of: InputContest, best: Spread | None) -> str:
    versions = dict.fromkeys(
        f"{result.start['framework']} (transforms: {result.start['transforms']})"
        for result in of.contest.results
    )
    words = (
        f"{platform.machine()}. Random crop of padding 4, horizontal flip, normalised float32 "
        "images. tf.data hands over uint8, which JAX normalises; resident is cut and normalised "
        "by JAX alone, as a training step does. That is in their times. Each contestant runs in "
        "a process of its own, and they take turns. "
        f"{'; '.join(versions)}."
    )
    if best is not None:
        return f"{words} The fastest of tf.data to the fastest of PyTorch: {best.cell(2)}."
    if not of.torch_found:
        words += " PyTorch is not installed here; --torch-python names an interpreter that has it."
    return words


def _summary(result: Result, base: Result) -> dict[str, Any]:
    return {
        "name": result.name,
        "images_per_second": asdict(spread(result.rates)),
        "relative_speed": asdict(ratio(result.rates, base.rates)),
    }
