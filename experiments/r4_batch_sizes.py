"""R4: memory and time of an epoch by batch size, beside the A6000's."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path
from statistics import median
from typing import Annotated, Any, ClassVar

import jax
from rich.console import Console

from experiments.harness.batch_size_findings import (
    BatchSizes,
    a6000_minutes,
    make_batch_size_table,
    make_summary_table,
    plot_batch_sizes,
)
from experiments.harness.claims import OTHER_PROTOCOL, claim
from experiments.harness.command import make_console, run_command, say
from experiments.harness.measured_steps import (
    MeasuringOptions,
    MemorySettings,
    check_some_fit,
    measure_steps,
    open_directory,
)
from experiments.harness.memory_lines import MIB, a6000_memory, fit_line
from experiments.harness.published import published
from experiments.harness.run_directory import finish_run
from experiments.harness.settings import parse_settings
from experiments.harness.talk_settings import PROTOCOL
from jaxresnet.errors import UserError
from jaxresnet.models.resnet import Dtype
from jaxresnet.optim import OPTIMIZERS
from jaxresnet.options import (
    departures,
    describe_options,
    one_of,
    option,
    replace_options,
    unpublished,
)
from jaxresnet.report.document import Claim, Report, write_report
from jaxresnet.report.tables import MISSING, median_and_range, number

EXPERIMENT = "r4_batch_sizes"

# By its name on the command line: what people call it, and the options that it sets.
SAVINGS: dict[str, tuple[str, Callable[["ComparedOptions"], dict[str, Any]]]] = {
    "none": ("", lambda _: {}),
    "remat": ("remat", lambda _: {"remat": True}),
    "accumulate": ("accumulated", lambda options: {"accumulate": options.accumulate_parts}),
}
_NONE = "none"

Way = tuple[str, str]  # the dtype, and how memory is saved
_TALK: Way = ("float32", _NONE)

Judgement = tuple[str, bool | None, str]  # what was found here, whether it agrees, why not
_PAIR = (128, 256)
_TOO_FEW = "fewer than two batch sizes were measured"


@dataclass(frozen=True)
class ComparedOptions:
    """What is measured."""

    batch_sizes: tuple[int, ...] = option(
        tuple(a6000_memory()), affects="result", published=False, says="", varies="batch_size"
    )
    """Each is compiled, and takes some steps, in a process of its own."""
    dtypes: tuple[Dtype, ...] = option(
        ("float32",), affects="result", published=False, says="", varies="dtype"
    )
    """Of convolutions and activations: measure with each of these."""
    savings: tuple[Annotated[str, one_of(SAVINGS, "way to save memory")], ...] = unpublished(
        (_NONE,), affects="result", distinct=True
    )
    """Ways to save memory: measure with each of these."""
    accumulate_parts: int = option(
        4, affects="result", published=False, says="accumulated in {} parts", at_least=2
    )
    """In which --savings accumulate takes a batch, if it has as many images."""

    def check(self) -> None:
        """Raises UserError if nothing is left to measure."""
        if not self.savings:
            raise UserError("--savings needs at least one name")


@dataclass(frozen=True)
class R4Settings(MemorySettings):
    measuring: MeasuringOptions = MeasuringOptions(steps=5)
    compared: ComparedOptions = ComparedOptions()
    QUICK: ClassVar[dict[str, Any]] = {
        "model": "resnet18", "width": 8, "image_size": 64, "batch_sizes": (1, 4, 16),
        "dtypes": ("float32", "bfloat16"),
    }  # fmt: skip


SETTINGS = R4Settings


def main(arguments: list[str]) -> None:
    """Parses the command line, measures each batch size in each way, and reports.

    Raises:
      TrainingFailed: a step failed, or no batch size fits.
    """
    settings, console = parse_settings(SETTINGS, EXPERIMENT, __doc__, arguments), make_console()
    with open_directory(EXPERIMENT, settings, console) as directory:
        series = _measure(settings, directory, console)
        check_some_fit(step for each in series.values() for step in each.steps)
        write_report(directory, report(settings, series, directory), console)
        steps = {each.title: [step.summary() for step in each.steps] for each in series.values()}
        finish_run(directory, {"experiment": EXPERIMENT, "steps": steps})


def _measure(settings: R4Settings, directory: Path, console: Console) -> dict[Way, BatchSizes]:
    """Each dtype with each way to save memory, in turn."""
    compared, series = settings.compared, {}
    for way in product(compared.dtypes, compared.savings):
        dtype, saving = way
        saved, replaced = SAVINGS[saving]
        title = ", ".join(filter(None, [dtype, saved]))
        say(console, f"{title}:")
        own = replace_options(settings, dtype=dtype, **replaced(compared))
        log = directory / f"{dtype}-{saving}.jsonl"
        steps = measure_steps(own, compared.batch_sizes, log, console, settings.measuring)
        series[way] = BatchSizes(title, steps)
    return series


def report(settings: R4Settings, series: dict[Way, BatchSizes], directory: Path) -> Report:
    """A table for each way, one of all, and plots of memory and time."""
    usual, every = R4Settings(), list(series.values())
    # What is compared departs in its own series alone.
    departed = departures(replace_options(settings, batch_sizes=(), dtypes=()), usual)
    groups = [(settings.model, usual.model), (settings.images, usual.images)]
    described = [text for group in groups for text in describe_options(*group)]
    network = ", ".join(text for text in described if text != settings.model.dtype)
    machines = dict.fromkeys(s.machine for each in every for s in each.steps if s.machine)
    optimizer = OPTIMIZERS[settings.optimizer.optimizer].title
    protocol = ", ".join([network, optimizer, *machines])
    other = f" This is not the talk's step: {'; '.join(departed)}." if departed else ""
    return Report(
        "R4: batch sizes",
        f"{protocol}; each batch size in a process of its own, {settings.measuring.steps} steps "
        "after one that is not timed. Their images are made up and on the device already: what "
        "reading them takes is not in the times (R2 measures it, and bench.input)." + other,
        [make_summary_table(every), *map(make_batch_size_table, every)],
        plot_batch_sizes(directory, network, every),
        asked="What do memory and the time of an epoch become with larger batches?",
        findings=_findings(every),
        claims=_claims(None if departed else series.get(_TALK)),
        publisher=PROTOCOL.authors,
    )


def _findings(series: Sequence[BatchSizes]) -> list[str]:
    """The fastest batch size of each way; what its memory and speed are to those of the first."""
    sentences = []
    for each in series:
        if not each.rates:
            sentences.append(f"With {each.title} no batch size fits.")
            continue
        minutes = {n: median(times) for n, times in each.minutes.items()}
        best = min(minutes, key=minutes.__getitem__)
        sentences.append(
            f"With {each.title} an epoch is shortest with batches of {best:,}: "
            f"{number(minutes[best], 1)} min."
        )
        both = each.rates.keys() & series[0].rates.keys()
        if each is not series[0] and both:
            size = max(both)
            memory, speed = (
                ours[size] / first[size]
                for ours, first in (
                    (each.measured, series[0].measured),
                    (each.median_rates, series[0].median_rates),
                )
            )
            sentences.append(
                f"Batches of {size:,} then take {memory:.2f} times the memory of "
                f"{series[0].title}, at {speed:.2f} times the speed."
            )
    return sentences


def _claims(series: BatchSizes | None) -> list[Claim]:
    """What the talk's rows say. series: of the talk's own step, if this run has it."""
    minutes, growth = a6000_minutes(), _a6000_growth()
    first, *_, last = minutes
    rule = published()["resnet152"]["rule_mib_per_image"]
    judges = {
        f"an epoch takes less time with larger batches: {minutes[first]:.0f} min with {first}, "
        f"{minutes[last]:.0f} with {last}": _judge_speed,
        f"memory grows by {growth / MIB:.0f} MiB an image on the A6000, by {rule} in the talk's "
        "rule": _judge_growth,
        f"batches of {' and '.join(map(str, _PAIR))} take the same time: "
        f"{minutes[_PAIR[0]]:.0f} min": _judge_pair,
    }
    unknown = MISSING, None, OTHER_PROTOCOL
    return [
        claim(said, *(unknown if series is None else judge(series)))
        for said, judge in judges.items()
    ]


def _a6000_growth() -> float:
    """Bytes an image, of the line through the talk's rows."""
    line = fit_line(a6000_memory())
    assert line is not None
    return line.per_image


def _judge_speed(series: BatchSizes) -> Judgement:
    """Agrees if each step of the largest batch is faster, by image, than any of the smallest."""
    rates = series.rates
    if len(rates) < 2:
        return MISSING, None, _TOO_FEW
    ends = min(rates), max(rates)
    small, large = (rates[size] for size in ends)
    shown = (f"{median_and_range(rates[n], partial(number, digits=2))} with {n}" for n in ends)
    why = "by no more than steps differ" if median(large) > median(small) else "it takes more"
    return f"images/s: {', '.join(shown)}", min(large) > max(small), why


def _judge_growth(series: BatchSizes) -> Judgement:
    """Agrees within a tenth of the A6000's."""
    if (line := series.line) is None:
        return MISSING, None, _TOO_FEW
    more = line.per_image / _a6000_growth() - 1
    return f"{number(line.per_image / MIB, 0)} MiB", abs(more) < 0.1, f"{more:+.0%}"


def _judge_pair(series: BatchSizes) -> Judgement:
    """Agrees within a hundredth, as exact as whole minutes are."""
    if not all(size in series.minutes for size in _PAIR):
        return MISSING, None, "not both were measured"
    first, second = (median(series.minutes[size]) for size in _PAIR)
    more = second / first - 1
    return f"{number(first, 1)} and {number(second, 1)} min", abs(more) < 0.01, f"{more:+.1%}"


if __name__ == "__main__":
    # The device is left to the processes that measure.
    jax.config.update("jax_platforms", "cpu")
    run_command(main, computes=False)
