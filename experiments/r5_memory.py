"""R5: where the memory of training ResNet-152 goes: counted, compiled and measured."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar

import jax

from experiments.harness import counted_memory, memory_findings
from experiments.harness.claims import OTHER_PROTOCOL, claim
from experiments.harness.command import make_console, run_command
from experiments.harness.measured_steps import (
    MemorySettings,
    check_some_fit,
    measure_steps,
    open_directory,
)
from experiments.harness.memory_findings import (
    CARD,
    COMPILED,
    COUNTED,
    MEASURED,
    TALK,
    MemoryFindings,
)
from experiments.harness.memory_lines import FLOAT32, GIB, MIB, a6000_memory, parse_size, talk_rule
from experiments.harness.published import published
from experiments.harness.run_directory import finish_run
from experiments.harness.settings import parse_settings
from experiments.harness.talk_settings import PROTOCOL
from jaxresnet.optim import OPTIMIZERS
from jaxresnet.options import (
    departures,
    describe_options,
    flag,
    option,
    replace_options,
    unpublished,
)
from jaxresnet.report.document import Claim, Report, write_report
from jaxresnet.report.tables import MISSING, number

EXPERIMENT = "r5_memory"

_PLOT = "memory_by_batch_size.png"


@dataclass(frozen=True)
class MemoryOptions:
    """What is measured and asked."""

    batch_sizes: tuple[int, ...] = option(
        (1, 2, 4, 8), affects="result", published=False, says="", varies="batch_size"
    )
    """Each is compiled, and takes two steps, in a process of its own. Two or more make a line."""
    fits: str | None = unpublished(None, affects="nothing")
    """Which batch size fits into so much memory, such as 24GiB, 24GB or 40960MiB?"""

    @property
    def limit(self) -> float | None:
        """Of `fits`, in bytes."""
        return None if self.fits is None else parse_size(self.fits, flag("fits"))

    def check(self) -> None:
        """Raises UserError for what is no size."""
        _ = self.limit


@dataclass(frozen=True)
class R5Settings(MemorySettings):
    memory: MemoryOptions = MemoryOptions()
    QUICK: ClassVar[dict[str, Any]] = {
        "model": "resnet50", "width": 8, "image_size": 64, "batch_sizes": (1, 16),
    }  # fmt: skip


SETTINGS = R5Settings


def main(arguments: list[str]) -> None:
    """Parses the command line, counts, measures each batch size, and reports.

    Raises:
      TrainingFailed: a step failed, or no batch size fits.
    """
    settings, console = parse_settings(SETTINGS, EXPERIMENT, __doc__, arguments), make_console()
    memory = settings.memory
    with open_directory(EXPERIMENT, settings, console) as directory:
        counted = counted_memory.count_memory(settings)
        log = directory / "batch_sizes.jsonl"
        steps = measure_steps(settings, memory.batch_sizes, log, console)
        check_some_fit(steps)
        optimizer = settings.optimizer.optimizer
        findings = MemoryFindings(counted, steps, optimizer, memory.fits, memory.limit)
        write_report(directory, report(settings, findings, directory), console)
        lines = {title: asdict(line) for title, line in findings.lines.items()}
        measured = [step.summary() for step in steps]
        finish_run(directory, {"experiment": EXPERIMENT, "lines": lines, "steps": measured})


def report(settings: R5Settings, findings: MemoryFindings, directory: Path) -> Report:
    """One table of all that the memory was said to be, where it goes, and a plot."""
    counted, usual = findings.counted, R5Settings()
    # The talk had many batch sizes.
    departed = departures(replace_options(settings, batch_sizes=()), usual)
    options = describe_options(settings.model, usual.model)
    options += describe_options(settings.images, usual.images)
    machines = dict.fromkeys(step.machine for step in findings.steps if step.machine)
    protocol = ", ".join([*options, OPTIMIZERS[findings.optimizer].title, *machines])
    other = f" This is not the talk's step: {'; '.join(departed)}." if departed else ""
    memory_findings.plot_memory(directory / _PLOT, ", ".join(options), findings)
    tables = [
        memory_findings.make_summary_table(findings),
        memory_findings.make_batch_size_table(findings),
        memory_findings.make_buffer_table(findings),
        counted_memory.make_part_table(counted),
        *([] if departed else [counted_memory.make_difference_table(counted)]),
        counted_memory.make_optimizer_table(counted),
    ]
    return Report(
        "R5: where the memory goes",
        f"{protocol}; each batch size in a process of its own.{other}",
        tables,
        [_PLOT],
        asked="How much memory does training take for each image and besides, where does it go, "
        "and which batch size fits?",
        findings=[*_explain(settings, findings), *_answer(findings)],
        claims=[*_claims_on_arithmetic(), *_claims_on_memory(findings, bool(departed))],
        details=[counted_memory.make_layer_table(counted)],
        publisher=PROTOCOL.authors,
    )


def _explain(settings: R5Settings, findings: MemoryFindings) -> list[str]:
    """What an image takes and what there is besides, and by how much the answers differ."""
    lines, counted = findings.lines, findings.counted
    kept, weights = lines[COUNTED].per_image, counted.weights_bytes(findings.optimizer)
    saving = {"remat": settings.model.remat, "accumulate": settings.training.accumulate > 1}
    without = " and ".join(flag(name) for name, used in saving.items() if used)
    needs = f"would need, without {without}," if without else "needs"
    sentences = [
        f"Of an image the backward pass {needs} {_mib(kept)} MiB, as counted; parameters, "
        f"gradients and optimizer state are {_mib(weights)} MiB."
    ]
    if COMPILED in lines:
        compiled = lines[COMPILED]
        sentences.append(
            f"The compiled step takes {_mib(compiled.per_image)} MiB an image, "
            f"{_compare(compiled.per_image, kept)} than that, and {_mib(compiled.fixed)} MiB "
            f"besides, {_compare(compiled.fixed, weights)}."
        )
    card, talk = lines[CARD], lines[TALK]
    sentences.append(
        f"The talk's A6000 took {_mib(card.per_image)} MiB an image, "
        f"{_compare(card.per_image, talk.per_image)} than the talk computed, and "
        f"{_mib(card.fixed)} MiB besides, {_compare(card.fixed, talk.fixed)}."
    )
    return sentences


def _compare(size: float, other: float) -> str:
    return f"{_mib(abs(size - other))} {'more' if size > other else 'less'}"


def _answer(findings: MemoryFindings) -> list[str]:
    """To --fits: by what was measured, or else by the compiler's."""
    if findings.limit is None:
        return []
    for title in (MEASURED, COMPILED):
        line = findings.lines.get(title)
        size = line and line.largest_batch(findings.limit)
        if size is not None:
            return [
                f"The largest batch that fits into {findings.limit_text} is {size:,}, by the line "
                f'"{title}".'
            ]
    return [
        f"Which batch fits into {findings.limit_text} cannot be said: that takes memory that grows "
        "from one batch size to another."
    ]


def _mib(size: float) -> str:
    return number(size / MIB, 1)


def _claims_on_arithmetic() -> list[Claim]:
    """Each agrees if the numbers are equal as far as they are given."""
    figures = published()["resnet152"]
    talk, (least, most) = memory_findings.talk_line(), talk_rule()
    said, listed = figures["activation_mib_per_image"], talk.per_image / MIB
    together = talk.at(1) / MIB
    within = [least.at(n) <= size <= most.at(n) for n, size in a6000_memory().items()]
    return [
        claim(
            f"the listed activations of an image take {said:.4f} MiB",
            f"{listed:.4f} MiB, with the row that our copy of the list lacks",
            abs(listed / said - 1) < 1e-12,
        ),
        claim(
            f"a value's storage varies a little: {figures['bytes_per_value']} bytes",
            f"{FLOAT32} bytes",
            figures["bytes_per_value"] == FLOAT32,
            "a float32 has 4; an allocator rounds whole arrays",
        ),
        claim(
            f"{figures['memory_batch1_gib']} GiB with batch 1 are "
            f"{figures['optimizer_memory_mib']} MiB of the model and {said:.2f} of the image",
            f"they add up to {together:.1f} MiB, {together * MIB / GIB:.3f} GiB",
            round(together * MIB / GIB, 3) == figures["memory_batch1_gib"],
            f"{figures['memory_batch1_gib']} GiB are {figures['memory_batch1_gib'] * 1024:.1f} MiB",
        ),
        claim(
            f"{memory_findings.describe_rule()}, with nothing reserved",
            f"{sum(within)} of the talk's {len(within)} rows lie there",
            all(within),
            "the rows rise faster with the batch than the rule",
        ),
    ]


def _claims_on_memory(findings: MemoryFindings, departed: bool) -> list[Claim]:
    """Each agrees within a tenth; it cannot be said of another network or step than the talk's."""
    figures, lines = published()["resnet152"], findings.lines
    talk = lines[TALK]

    def compare(published: str, said: float, here: dict[str, float]) -> Claim:
        close = all(abs(size / said - 1) < 0.1 for size in here.values())
        why = ", ".join(f"{title} {size / said - 1:+.0%}" for title, size in here.items())
        found = ", ".join(f"{title} {_mib(size)} MiB" for title, size in here.items())
        known = bool(here) and not departed
        return claim(
            published, found or MISSING, close if known else None, why if known else OTHER_PROTOCOL
        )

    grown = {t: lines[t].per_image for t in (COUNTED, COMPILED, MEASURED) if t in lines}
    return [
        compare(
            f"an image takes {figures['activation_mib_per_image']:.2f} MiB",
            talk.per_image,
            grown,
        ),
        compare(
            f"the model takes {figures['optimizer_memory_mib']} MiB: weights, gradients, copies",
            talk.fixed,
            {"counted here": float(findings.counted.weights_bytes(findings.optimizer))},
        ),
        compare(
            f"batch 1 takes {figures['memory_batch1_gib']} GiB",
            figures["memory_batch1_gib"] * GIB,
            {title: points[1] for title, points in findings.points.items() if 1 in points},
        ),
    ]


if __name__ == "__main__":
    # Shapes are counted here; the device is left to the processes that measure.
    jax.config.update("jax_platforms", "cpu")
    run_command(main, computes=False)
