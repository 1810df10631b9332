"""What was counted, compiled and measured of a step's memory, in tables beside the talk's."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from experiments.harness.counted_memory import CountedMemory
from experiments.harness.measured_steps import StepMemory
from experiments.harness.memory_lines import (
    GIB,
    MIB,
    MemoryLine,
    a6000_memory,
    fit_line,
    talk_line,
    talk_rule,
)
from experiments.harness.published import published
from jaxresnet.report.plots import Curve, plot_curves
from jaxresnet.report.tables import MISSING, Column, Table, make_table, number

TALK, CARD, COUNTED = "the talk: computed", "the talk: A6000, nvidia-smi", "counted here"
COMPILED, MEASURED = "compiled here", "measured here"


@dataclass(frozen=True)
class MemoryFindings:
    """Of one network, and of its step with each batch size.

    Attributes:
      optimizer: its name.
      limit: bytes into which a batch shall fit. limit_text: as it was given.
    """

    counted: CountedMemory
    steps: list[StepMemory]
    optimizer: str
    limit_text: str | None
    limit: float | None

    @property
    def points(self) -> dict[str, dict[int, float]]:
        """Bytes by batch size: of the compiled steps, and as measured."""
        figures = {COMPILED: lambda s: s.compiled, MEASURED: lambda s: s.measured}
        return {
            title: {s.batch_size: float(figure(s)) for s in self.steps if figure(s) is not None}
            for title, figure in figures.items()
        }

    @property
    def lines(self) -> dict[str, MemoryLine]:
        """By whose they are; of what has two points at least."""
        fitted = {
            CARD: fit_line(a6000_memory()),
            **{t: fit_line(p) for t, p in self.points.items()},
        }
        lines = {TALK: talk_line(), COUNTED: self.counted.line(self.optimizer), **fitted}
        order = (TALK, CARD, COUNTED, COMPILED, MEASURED)
        return {title: line for title in order if (line := lines[title])}


def make_summary_table(findings: MemoryFindings) -> Table:
    """A row for each answer to how much an image takes, and how much there is besides."""
    rows = []
    for title, line in findings.lines.items():
        sizes = (line.per_image, line.fixed, line.at(1))
        rows.append([title, *(number(size / MIB, 1) for size in sizes)])
        if findings.limit is not None:
            largest = line.largest_batch(findings.limit)
            rows[-1].append(MISSING if largest is None else f"{largest:,}")
    allocated = number(published()["resnet152"]["memory_batch1_gib"] * GIB / MIB, 1)
    blanks = [MISSING] * (findings.limit is not None)
    rows.insert(1, ["the talk: allocated, batch 1", MISSING, MISSING, allocated, *blanks])
    columns = ["", "MiB an image", "fixed MiB", "MiB with\nbatch 1"]
    if findings.limit is not None:
        columns.append(f"largest batch\nin {findings.limit_text}")
    return Table(
        "Memory of a training step: for each image, and fixed",
        columns,
        rows,
        "The talk computed it from a list of activations and three copies of the parameters, asked "
        "PyTorch's allocator (torch.cuda.memory_allocated) with batch 1, and read nvidia-smi with "
        "ten batch sizes. Counted: what the backward pass needs of an image, if none is computed "
        "again and no batch is taken in parts; and parameters, gradients, optimizer state and "
        "statistics. Compiled: all buffers of the compiled step, by "
        "XLA. Measured: the most that the device's allocator held; on a CPU the process, less what "
        "it held before the weights were drawn. With batch 1: by the line. Lines are fitted to the "
        f"table by batch size, which misses them by so much at most: {_misfits(findings)}.",
    )


def _misfits(findings: MemoryFindings) -> str:
    """Of each fitted line, the greatest distance of its points."""
    lines = findings.lines
    misfits = {
        title: max(abs(size / lines[title].at(n) - 1) for n, size in points.items())
        for title, points in {CARD: a6000_memory(), **findings.points}.items()
        if title in lines
    }
    return ", ".join(f"{title} {100 * misfit:.1f}%" for title, misfit in misfits.items())


def make_batch_size_table(findings: MemoryFindings) -> Table:
    """The talk's batch sizes and this run's; what has not been tried is read off the lines."""
    lines, points, card = findings.lines, findings.points, a6000_memory()
    errors = {step.batch_size: step.error for step in findings.steps}
    least, most = talk_rule()

    def own(title: str, size: int) -> str:
        if size in points[title]:
            return number(points[title][size] / MIB, 0)
        if errors.get(size) and title == MEASURED:
            return errors[size]
        return f"({number(lines[title].at(size) / MIB, 0)})" if title in lines else MISSING

    columns: list[Column[int]] = [
        Column("batch size", str),
        Column(CARD, lambda n: card[n] / MIB if n in card else None, 0),
        Column(
            "the talk's\nrule",
            lambda n: f"{number(least.at(n) / MIB, 0)} to {number(most.at(n) / MIB, 0)}",
        ),
        Column(TALK, lambda n: lines[TALK].at(n) / MIB, 0),
        Column(COUNTED, lambda n: lines[COUNTED].at(n) / MIB, 0),
        Column(COMPILED, lambda n: own(COMPILED, n)),
        Column(MEASURED, lambda n: own(MEASURED, n)),
    ]
    return make_table(
        "Memory by batch size (MiB)",
        columns,
        sorted({*card, *(step.batch_size for step in findings.steps)}),
        f"In brackets: by the line, not tried. The talk's rule: {describe_rule()}.",
    )


def describe_rule() -> str:
    """The talk's, for all memory."""
    figures = published()["resnet152"]
    least, most = figures["rule_fixed_gib"]
    return f"{figures['rule_mib_per_image']} MiB x batch size + {least} to {most} GiB"


def make_buffer_table(findings: MemoryFindings) -> Table:
    """What the compiled steps' memory is made of, and what their processes held."""

    def kind(name: str) -> Column[StepMemory]:
        return Column(name, lambda s: s.buffers[name] / MIB if s.buffers else None, 1)

    def mib(header: str, name: str) -> Column[StepMemory]:
        def value(step: StepMemory) -> float | None:
            size = getattr(step, name)
            return None if size is None else size / MIB

        return Column(header, value, 1)

    columns = [
        Column[StepMemory]("batch size", lambda step: str(step.batch_size)),
        *map(kind, ("arguments", "temporaries", "outputs", "aliased")),
        mib("together", "compiled"),
        mib("process:\nuntil compiled", "compile_peak"),
        mib("before\nweights", "before"),
        mib("peak of\nthe steps", "peak"),
    ]
    return make_table(
        "The compiled step's buffers, and what was held (MiB)",
        columns,
        findings.steps,
        "Arguments: parameters, optimizer state and the batch. Outputs take the arguments' place "
        "where they are aliased. Temporaries: gradients, activations, and what lives for a moment. "
        "The process: the most until the step was compiled; what it held then, much of it the "
        "compiler's; and the peak of the steps, of the process on a CPU, else of the device's "
        "allocator.",
    )


def plot_memory(path: Path, step: str, findings: MemoryFindings) -> None:
    """Each over the batch size, both axes logarithmic; the talk's dashed. step: which, in words."""
    lines, card = findings.lines, a6000_memory()
    sizes = [2**power for power in range(int(np.log2(max(card))) + 1)]

    def curve(title: str, points: Mapping[int, float], colour: int) -> Curve:
        x = sorted(points)
        return Curve(title, [points[n] / MIB for n in x], colour, title in (TALK, CARD), x=x)

    computed = {title: {n: lines[title].at(n) for n in sizes} for title in (TALK, COUNTED)}
    series = {CARD: card, **computed, **findings.points}
    curves = [curve(*item, colour) for colour, item in enumerate(series.items()) if item[1]]
    plot_curves(
        path,
        f"Memory of a training step: {step}",
        "batch size",
        "MiB",
        curves,
        logarithmic=True,
        logarithmic_x=True,
    )
