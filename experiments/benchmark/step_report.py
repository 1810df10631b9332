"""What bench_step says about its contest."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from experiments.benchmark.contest import Contest, Result
from experiments.benchmark.output import Findings
from experiments.benchmark.summary import Spread, best_by_round, ratio, spread
from jaxresnet import platform
from jaxresnet.report.tables import Table, number, percent, seconds

PLOT = "step.png"

_COLUMNS = (
    "contestant", "ms per step\n(range)", "images/s", "relative\nspeed (range)", "GFLOP/s",
    "% of\nproduct", "faults\nper step", "peak\nMB", "first\nstep s",
)  # fmt: skip
_NOTE = (
    "Medians over the rounds, with the least and the greatest. Relative speed: images/s over those "
    "of {base} in the same round; above 1 is faster. GFLOP/s: the nominal arithmetic of a step, "
    "{gflop:,.1f} GFLOP in convolutions and the linear layer, over its time. Kernels skip products "
    "with padding, and Winograd's algorithm more than half of all (jaxresnet in float32), so that "
    "this can exceed what the chip does. % of product: of the best "
    "measured rate of a matrix product of {dtype}, {product:,.0f} GFLOP/s. Faults: pages that the "
    "kernel gave the process during a step. Peak: of memory, compiling included. First step: "
    "making the network, compiling without a cache, and the first step."
)


@dataclass(frozen=True)
class StepContest:
    """words: what the step is of. gflop: its nominal arithmetic."""

    words: str
    dtype: str
    gflop: float
    contest: Contest
    torch_found: bool


def step_findings(of: StepContest) -> Findings:
    """Each contestant against the fastest of PyTorch, or the first one where there is none."""
    results = of.contest.results
    theirs = [result for result in results if result.pytorch]
    base = "the fastest of PyTorch" if theirs else results[0].name
    reference = best_by_round([result.rates for result in theirs or results[:1]])
    product = max(result.start["matrix_product_gflops"] for result in results)
    title = f"One training step: {of.words}"
    note = _NOTE.format(base=base, gflop=of.gflop, dtype=of.dtype, product=product)
    rows = [_row(result, reference, of.gflop, product) for result in results]
    values = {
        "step_gflop": of.gflop,
        "matrix_product_gflops": product,
        "compared_with": base,
        "summary": [_summary(result, reference) for result in results],
    }
    table = Table(title, _COLUMNS, rows, note)
    plot_title = f"One training step\n{of.words}"
    return Findings(title, _introduction(of), [table], values, PLOT, plot_title)


def _introduction(of: StepContest) -> str:
    versions = dict.fromkeys(
        f"{result.start['framework']} with {result.start['threads']} threads"
        for result in of.contest.results
    )
    switched_on = [
        f"{name} {value}" for name, value, _why in of.contest.results[0].start["process_settings"]
    ]
    words = (
        f"{platform.machine()}. One step is normalising a uint8 batch, the forward and backward "
        "pass, and SGD's update; all contestants get the same batch and wait for the loss of each "
        f"step. Each runs in a process of its own, and they take turns. {'; '.join(versions)}. "
        f"Settings of jaxresnet's process: {', '.join(switched_on) or 'none'}."
    )
    if not of.torch_found:
        words += " PyTorch is not installed here; --torch-python names an interpreter that has it."
    return words


def _step_seconds(result: Result) -> Spread:
    """Of the mean step of each round."""
    return spread([sum(one["seconds"]) / len(one["seconds"]) for one in result.rounds])


def _row(result: Result, reference: Sequence[float], gflop: float, product: float) -> list[str]:
    step = _step_seconds(result)
    milliseconds = Spread(*(1000 * value for value in (step.median, step.low, step.high)))
    steps = sum(len(one["seconds"]) for one in result.rounds)
    faults = sum(one["page_faults"] for one in result.rounds) / steps
    return [
        result.name,
        milliseconds.cell(1),
        number(spread(result.rates).median, 1),
        ratio(result.rates, reference).cell(2),
        number(gflop / step.median, 1),
        percent(gflop / step.median / product, 0),
        f"{faults:,.0f}",
        number(max(one["peak_memory_mb"] for one in result.rounds), 0),
        seconds(result.start["first_step_seconds"]),
    ]


def _summary(result: Result, reference: Sequence[float]) -> dict[str, Any]:
    return {
        "name": result.name,
        "step_seconds": asdict(_step_seconds(result)),
        "images_per_second": asdict(spread(result.rates)),
        "relative_speed": asdict(ratio(result.rates, reference)),
    }
