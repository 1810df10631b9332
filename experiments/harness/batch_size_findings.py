"""Memory and time of training steps by batch size, in tables and plots beside the A6000's."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from experiments.harness.measured_steps import StepMemory, compiled_line
from experiments.harness.memory_lines import MIB, MemoryLine, a6000_memory, fit_line
from experiments.harness.published import published
from jaxresnet.data.imagenet import IMAGENET
from jaxresnet.report.plots import Curve, plot_curves
from jaxresnet.report.tables import Column, Table, make_table, number

EPOCH_IMAGES = IMAGENET.sizes["train"]

# A title, the line of memory, and bytes and images/s by batch size.
SummaryRow = tuple[str, MemoryLine | None, Mapping[int, float], Mapping[int, float]]

_CARD = "the talk: A6000"


@dataclass(frozen=True)
class BatchSizes:
    """The steps of one network, with one way to save memory, by rising batch size.

    Attributes:
      title: what distinguishes it from the others of a run.
    """

    title: str
    steps: list[StepMemory]

    @property
    def measured(self) -> dict[int, float]:
        """Bytes by batch size."""
        sizes = {step.batch_size: step.measured for step in self.steps}
        return {n: float(size) for n, size in sizes.items() if size is not None}

    @property
    def rates(self) -> dict[int, list[float]]:
        """Images/s of each step, by batch size."""
        return {
            step.batch_size: [step.batch_size / each for each in step.seconds]
            for step in self.steps
            if step.seconds
        }

    @property
    def minutes(self) -> dict[int, list[float]]:
        """Of an epoch if all steps took as long as each of those that were timed."""
        return {n: [EPOCH_IMAGES / rate / 60 for rate in rates] for n, rates in self.rates.items()}

    @property
    def median_rates(self) -> dict[int, float]:
        return {n: median(rates) for n, rates in self.rates.items()}

    @property
    def line(self) -> MemoryLine | None:
        """Through what was measured."""
        return fit_line(self.measured)


def a6000_minutes() -> dict[int, float]:
    """Of an epoch, by batch size, where the talk gives them."""
    rows = published()["resnet152"]["batch_size"]
    pairs = zip(rows["size"], rows["epoch_min"], strict=True)
    return {n: float(minutes) for n, minutes in pairs if minutes >= 0}


def make_summary_table(series: Sequence[BatchSizes]) -> Table:
    """A row for the A6000 and for each series."""
    card_rates = {n: EPOCH_IMAGES / minutes / 60 for n, minutes in a6000_minutes().items()}
    rows: list[SummaryRow] = [(_CARD, fit_line(a6000_memory()), a6000_memory(), card_rates)]
    rows += [(each.title, each.line, each.measured, each.median_rates) for each in series]

    def fastest(row: SummaryRow) -> int | None:
        return max(row[3], key=row[3].__getitem__, default=None)

    columns: list[Column[SummaryRow]] = [
        Column("", lambda row: row[0]),
        Column("MiB an image", lambda row: row[1] and row[1].per_image / MIB, 1),
        Column("fixed MiB", lambda row: row[1] and row[1].fixed / MIB, 1),
        Column("largest batch\nmeasured", lambda row: f"{max(row[2]):,}" if row[2] else None),
        Column("most\nimages/s", lambda row: max(row[3].values(), default=None), 2),
        Column("with batch", lambda row: None if (n := fastest(row)) is None else f"{n:,}"),
    ]
    return make_table(
        "Memory and speed",
        columns,
        rows,
        "MiB: of a line through what was measured. Images/s: by the median step; the A6000's by "
        "its minutes.",
    )


def make_batch_size_table(series: BatchSizes) -> Table:
    """The talk's batch sizes and this run's."""
    card, minutes, line = a6000_memory(), a6000_minutes(), compiled_line(series.steps)
    own_minutes, steps = series.minutes, {step.batch_size: step for step in series.steps}

    def compiled(size: int) -> str | float | None:
        step = steps.get(size)
        if step is not None and step.compiled is not None:
            return step.compiled / MIB
        return f"({number(line.at(size) / MIB, 0)})" if line else None

    def measured(size: int) -> str | float | None:
        if size in series.measured:
            return series.measured[size] / MIB
        return steps[size].error if size in steps else None

    columns: list[Column[int]] = [
        Column("batch size", str),
        Column("compiled\nMiB", compiled, 0),
        Column("measured\nMiB", measured, 0),
        Column("images/s", series.median_rates.get, 2),
        Column("epoch (min)", own_minutes.get, 1),
        Column("A6000\nMiB", lambda n: card[n] / MIB if n in card else None, 0),
        Column("A6000\nepoch (min)", minutes.get, 0),
    ]
    return make_table(
        f"Memory and time by batch size: {series.title}",
        columns,
        sorted({*card, *steps}),
        "Compiled: all buffers of the compiled step, by XLA; in brackets: by the line through the "
        "others. Measured: the most that the device's allocator held; on a CPU the process, less "
        "what it held before the weights were drawn. Not tried: it needs more than there was. "
        "Signal 9: the kernel sends it when memory runs out. Epoch: of "
        f"{EPOCH_IMAGES:,} images, by the median, least and greatest step.",
    )


def plot_batch_sizes(directory: Path, network: str, series: Sequence[BatchSizes]) -> list[str]:
    """Memory, and the time of an epoch; names of the files. network: in words."""
    memory, minutes = a6000_memory(), a6000_minutes()
    published_memory = {n: size / MIB for n, size in memory.items()}
    plots = {
        "memory_by_batch_size.png": (
            f"Memory of a training step: {network}",
            "MiB",
            [_curve(_CARD, published_memory, 0, dashed=True)]
            + [
                _curve(each.title, {n: size / MIB for n, size in each.measured.items()}, colour)
                for colour, each in enumerate(series, 1)
            ],
        ),
        "epoch_by_batch_size.png": (
            f"An epoch of {EPOCH_IMAGES:,} images: {network}",
            "minutes",
            [_curve(_CARD, minutes, 0, dashed=True)]
            + [
                _curve(
                    each.title,
                    {n: median(times) for n, times in each.minutes.items()},
                    colour,
                    ranges=[(min(times), max(times)) for times in each.minutes.values()],
                )
                for colour, each in enumerate(series, 1)
            ],
        ),
    }
    for name, (title, unit, curves) in plots.items():
        plot_curves(
            directory / name,
            title,
            "batch size",
            unit,
            [curve for curve in curves if curve.values],
            logarithmic=True,
            logarithmic_x=True,
        )
    return list(plots)


def _curve(
    title: str,
    points: Mapping[int, float],
    colour: int,
    *,
    dashed: bool = False,
    ranges: Sequence[tuple[float, float]] | None = None,
) -> Curve:
    return Curve(title, list(points.values()), colour, dashed, x=list(points), ranges=ranges)
