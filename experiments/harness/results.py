"""The results of a run, as its report sees them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic

from experiments.harness.published import SOURCE
from experiments.harness.run_directory import finish_run
from experiments.harness.settings import Settings, SettingsType, Variant
from jaxresnet.data.dataset import Dataset
from jaxresnet.options import departures, describe_options
from jaxresnet.train.figures import Record
from jaxresnet.train.log import lines_of


@dataclass(frozen=True)
class Series:
    """The results of one training: its lines in the run directory's logs."""

    variant: Variant
    epochs: list[Record]
    steps: list[Record]
    starts: list[Record]
    test_batches: list[Record]

    @property
    def learning_rate(self) -> float:
        return self.variant.settings.optimizer.rate

    def values(self, key: str) -> list[float]:
        """One figure of each epoch."""
        return [epoch[key] for epoch in self.epochs]

    def total(self, key: str) -> float:
        return sum(self.values(key))

    def mean(self, key: str) -> float:
        return self.total(key) / len(self.epochs)


@dataclass(frozen=True)
class Results(Generic[SettingsType]):
    """A finished run, as its report sees it. missing: the trainings that did not end."""

    directory: Path
    settings: SettingsType
    dataset: Dataset
    series: list[Series]
    missing: list[str]

    @property
    def epochs(self) -> int:
        return self.settings.training.epochs

    @property
    def train_images(self) -> str:
        """How many training images of which kind, in words."""
        return f"{len(self.dataset.train):,} {self.dataset.title}"

    def by(self, option: str) -> dict[Any, list[Series]]:
        """The series by the values of one of the options that vary."""
        groups: dict[Any, list[Series]] = {}
        for series in self.series:
            groups.setdefault(series.variant.value(option), []).append(series)
        return groups


def load_results(
    directory: Path, settings: SettingsType, variants: Sequence[Variant], dataset: Dataset
) -> Results[SettingsType]:
    """Reads a run's logs back: of the variants, those that were trained to their end."""
    names = ("epochs", "steps", "starts", "test_batches")
    series = [
        Series(variant, *(lines_of(variant.series, directory / f"{name}.jsonl") for name in names))
        for variant in variants
    ]
    finished = [s for s in series if len(s.epochs) == settings.training.epochs]
    missing = [s.variant.title for s in series if s not in finished]
    return Results(directory, settings, dataset, finished, missing)


def write_summary(experiment: str, results: Results) -> None:
    """Writes summary.json: the main figures of each training."""
    summary = {
        "experiment": experiment,
        "images": results.dataset.title,
        "machine": starts_in_words(results.series, "machine"),
        "series": {
            series.variant.series: {
                "learning_rate": series.learning_rate,
                "compile_seconds": [start["compile"] for start in series.starts],
                "mean_epoch_seconds": series.mean("seconds"),
                "mean_loss": series.mean("loss"),
                "mean_top1": series.mean("top1"),
                "final": series.epochs[-1],
            }
            for series in results.series
        },
    }
    finish_run(results.directory, summary)


def describe_run(results: Results) -> str:
    """Settings, images and machine in a sentence, and whether the protocol is the published one."""
    settings = results.settings
    rates = dict.fromkeys(
        f"{series.variant.settings.optimizer.entry.title} at rate {series.learning_rate:g}"
        for series in results.series
    )
    parts = [
        *describe_options(settings, type(settings)()),
        results.train_images,
        *rates,
        starts_in_words(results.series, "machine"),
    ]
    sentences = [f"{', '.join(parts)}."]
    revisions = starts_in_words(results.series, "revision")
    if " and " in revisions:
        sentences.append(f"Trained by several revisions of this code: {revisions}.")
    if results.missing:
        sentences.append(f"Left out, since they did not end: {'; '.join(results.missing)}.")
    departed = protocol_departures(settings, results.dataset)
    if departed:
        sentences.append(f"This is not the published protocol: {'; '.join(departed)}.")
        return " ".join(sentences)
    return f"The published protocol: {' '.join(sentences)}"


def protocol_departures(settings: Settings, dataset: Dataset) -> list[str]:
    """How a run differs from the published ones; empty if its results may stand beside theirs."""
    departed = departures(settings, type(settings)())
    if not (dataset.name == SOURCE and dataset.published):
        departed.append(f"{dataset.title} from {dataset.location} instead of the published set")
    return departed


def starts_in_words(series: Sequence[Series], key: str) -> str:
    """Where the steps were taken, which need not be where the report is made; or by what code."""
    found = dict.fromkeys(str(start[key]) for one in series for start in one.starts)
    return " and ".join(found)
