"""The results of a run, as its report sees them."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Generic

from experiments.harness.run_directory import finish_run
from experiments.harness.settings import Settings, SettingsT, Variant, make_variants
from jaxresnet.data.dataset import Dataset
from jaxresnet.data.sources import SOURCES
from jaxresnet.options import departures, describe_options
from jaxresnet.train.figures import Record


@dataclass(frozen=True)
class Series:
    """The results of one training: its lines in the run directory's logs, by their names."""

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
class Results(Generic[SettingsT]):
    """A run: the trainings that ended, and the titles of those that are missing."""

    directory: Path
    settings: SettingsT
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

    def over_trainings(self, key: str, epochs: slice) -> list[float]:
        """One figure of these epochs of every training."""
        return [value for series in self.series for value in series.values(key)[epochs]]

    def starts(self, key: str) -> str:
        """On which machines, or by which revisions, the steps were taken; in words."""
        values = (start[key] for series in self.series for start in series.starts if start[key])
        return " and ".join(dict.fromkeys(values))


def write_summary(experiment: str, results: Results) -> None:
    """Writes summary.json: the main figures of each training."""
    series = {
        s.variant.series: {
            "learning_rate": s.learning_rate,
            "compile_seconds": [start["compile"] for start in s.starts],
            "mean_epoch_seconds": s.mean("seconds"),
            "mean_loss": s.mean("loss"),
            "mean_top1": s.mean("top1"),
            "final": s.epochs[-1],
        }
        for s in results.series
    }
    about = {"images": results.dataset.title, "machine": results.starts("machine")}
    finish_run(results.directory, {"experiment": experiment, **about, "series": series})


def describe_run(results: Results) -> str:
    """Settings, images and machine in a sentence, and whether the protocol is the published one."""
    settings = results.settings
    optimizers = []
    for series in results.series:
        optimizer = series.variant.settings.optimizer
        momentum = f", momentum {optimizer.momentum:g}" if optimizer.entry.uses_momentum else ""
        optimizers.append(f"{optimizer.entry.title} (rate {optimizer.rate:g}{momentum})")
    options = describe_options(settings, type(settings)())
    parts = [*options, results.train_images, *dict.fromkeys(optimizers), results.starts("machine")]
    sentences = f"{', '.join(parts)}."
    revisions = results.starts("revision")
    if " and " in revisions:
        sentences += f" Trained by several revisions of this code: {revisions}."
    if results.missing:
        sentences += f" Left out, since they did not end: {'; '.join(results.missing)}."
    departed = protocol_departures(settings, results.dataset)
    if departed:
        return f"{sentences} This is not the published protocol: {'; '.join(departed)}."
    return f"The published protocol: {sentences}"


def protocol_departures(settings: Settings, dataset: Dataset) -> list[str]:
    """How a run differs from the published ones; empty if its results may stand beside theirs."""
    protocol = settings.protocol
    # As many images as there are is what the protocol takes, with the option or without.
    images, sizes = settings.images, SOURCES[protocol.source].sizes
    if images.train_images == sizes["train"]:
        images = replace(images, train_images=None)
    if images.eval_images == sizes["test"]:
        images = replace(images, eval_images=None)
    departed = departures(replace(settings, images=images), type(settings)())
    for name in dict.fromkeys(v.settings.optimizer.optimizer for v in make_variants(settings)):
        if name not in protocol.optimizers:
            departed.append(f"--optimizer {name}, with which {protocol.authors} did not train")
    if not (dataset.name == protocol.source and dataset.published):
        departed.append(f"{dataset.title} from {dataset.location} instead of the published set")
    return departed
