"""The one way in which benchmarks are run and reported: contestants in turn, A B C A B C."""

import contextlib
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from experiments.bench.contestant import Contestant, find_torch
from experiments.harness import run_directory
from experiments.harness.command import make_console, say
from experiments.harness.environment import describe_environment
from jaxresnet import platform
from jaxresnet.errors import CheckFailed
from jaxresnet.options import changed_options, options_of, unpublished
from jaxresnet.report.document import Report, write_report
from jaxresnet.report.plots import plot_rates
from jaxresnet.report.tables import Column, make_table
from jaxresnet.train.log import write_json

_TURNS = "Each contestant runs in a process of its own, and they take turns."
_NO_TORCH = "PyTorch is not installed here; --torch-python names an interpreter that has it."
_NOTE = (
    "Medians over the rounds, with the least and the greatest. Relative speed: images/s over those "
    "of {} in the same round; above 1 is faster. {}"
)

time_option = partial(unpublished, affects="time")


@dataclass(frozen=True)
class ContestOptions:
    """How often contestants are asked, and where results go."""

    rounds: int = time_option(7, at_least=1)
    """How often each contestant is asked, one after the other."""
    torch_python: Path | None = unpublished(None, affects="nothing")
    """A Python interpreter that can import torch. None: this one."""
    out: Path | None = unpublished(None, affects="nothing")
    """Where results go. None: runs/<benchmark>/<name made from the options>."""


class Benchmark:
    """A contest and its report.

    Attributes:
      results: the contestants that did not fail.
      left_out: by name, why PyTorch's that failed did.
    """

    def __init__(self, experiment: str, settings: ContestOptions):
        """Raises UserError if --out is not usable, or --torch-python has no PyTorch."""
        self.experiment, self.settings, self.console = experiment, settings, make_console()
        if settings.out is not None:
            run_directory.check_directory(settings.out, experiment)
        self._torch_python = find_torch(settings.torch_python)
        self.results: list[Contestant] = []
        self.left_out: dict[str, str] = {}

    def run(
        self, title: str, variant: str, contestants: list[Contestant], count: int = 1, **data: str
    ) -> None:
        """Starts the contestants one after the other, then asks them in turn.

        Args:
          variant: short enough for a file name.
          contestants: PyTorch's take part if it is installed.
          count: repetitions of each contestant's work in a round.
          data: what the results depend on besides the options.

        Raises:
          CheckFailed: one that is not PyTorch's failed.
        """
        settings, python = self.settings, self._torch_python
        changed = changed_options(settings, type(settings)(), ("result", "time"))
        default = run_directory.default_directory(self.experiment, variant, {**changed, **data})
        self.directory, self.title = settings.out or default, title
        run_directory.check_directory(self.directory, self.experiment)
        tell = partial(say, self.console)
        tell(f"{self.experiment}: {title}; results in {self.directory}")
        self.results = [each for each in contestants if python or not each.pytorch]
        with contextlib.ExitStack() as stack:
            answers = {}
            for each in self.results:
                worker = each.answers((each.pytorch and python) or sys.executable, count)
                answers[each.name] = stack.enter_context(contextlib.closing(worker))
            for number in range(settings.rounds + 1):
                if number:
                    tell(f"round {number} of {settings.rounds} …")
                for each in list(self.results):
                    if not number:
                        tell(f"{each.name}: getting ready …")
                    answer = next(answers[each.name])
                    if error := answer.get("error"):
                        if not each.pytorch:
                            raise CheckFailed(f"{each.name} failed:\n{error}")
                        answers[each.name].close()
                        self.results.remove(each)
                        self.left_out[each.name] = error
                        tell(f"{each.name}: left out, it failed:\n{error}")
                    elif number:
                        each.rounds.append(answer)
                    else:
                        each.start = answer

    @property
    def pytorch(self) -> list[Contestant]:
        return [each for each in self.results if each.pytorch]

    @property
    def reference(self) -> str:
        """What speeds are relative to."""
        return "the fastest of PyTorch" if self.pytorch else self.results[0].name

    def relative_speed(self, *group: Contestant) -> list[float]:
        """In each round, the fastest of these over the fastest of PyTorch, or the first of all."""
        rates, base = (
            [max(rates) for rates in zip(*(each.rates for each in side), strict=True)]
            for side in (group, self.pytorch or self.results[:1])
        )
        return [rate / reference for rate, reference in zip(rates, base, strict=True)]

    def report(
        self,
        about: str,
        software: str,
        columns: Sequence[Column[Contestant]],
        note: str,
        **values: Any,
    ) -> None:
        """Replaces an earlier report, and prints the new one.

        Args:
          software: a format of contestants' answers when they were ready.
          columns: of the table, after the contestant's name.
          values: more for results.json.
        """
        name, run = self.experiment.removeprefix("bench_"), {"experiment": self.experiment}
        content = {
            **run,
            "machine": platform.machine(),
            **values,
            "compared_with": self.reference,
            "summary": [
                {
                    "name": each.name,
                    f"{name}_seconds": spread(each.seconds),
                    "images_per_second": spread(each.rates),
                    "relative_speed": spread(self.relative_speed(each)),
                }
                for each in self.results
            ],
            "contestants": [
                {name: getattr(each, name) for name in ("name", "pytorch", "start", "rounds")}
                for each in self.results
            ],
            "left_out": self.left_out,
        }
        versions = dict.fromkeys(software.format_map(each.start) for each in self.results)
        missing = "" if self.pytorch or self.left_out else f" {_NO_TORCH}"
        paragraphs = [f"{platform.machine()}. {_TURNS} {'; '.join(versions)}. {about}{missing}"]
        for failed, reason in self.left_out.items():
            line = reason.splitlines()[0]
            paragraphs.append(f"{failed} is left out, since it failed: {line}")
        columns = [Column[Contestant]("contestant", lambda each: each.name), *columns]
        note = _NOTE.format(self.reference, note)
        table = make_table(self.title, columns, self.results, note)
        report = Report(self.title, "\n\n".join(paragraphs), [table], [f"{name}.png"])
        directory, environment = self.directory, describe_environment()
        options = {each.name: each.value for each in options_of(self.settings)}
        with run_directory.open_run_directory(directory, run, options, environment, fresh=True):
            settings = run_directory.read_settings(directory)
            write_json(directory / "results.json", {**content, "settings": settings})
            rates = {each.name: each.rates for each in self.results}
            plot_rates(directory / f"{name}.png", self.title, rates)
            write_report(directory, report, self.console)


def spread(values: Sequence[float]) -> dict[str, float]:
    """As results.json keeps one value for each round."""
    return {"median": median(values), "low": min(values), "high": max(values)}
