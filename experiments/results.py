"""The results of a run, as its report sees them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from experiments.protocol import follows_published_protocol, optimizer_options
from experiments.run_directory import finish_run
from experiments.settings import FULL_WIDTH, Settings
from experiments.variants import Variant
from jaxresnet.data.dataset import Dataset
from jaxresnet.optim import get_optimizer
from jaxresnet.report.tables import plural
from jaxresnet.train.metrics import read_json_lines


@dataclass(frozen=True)
class Series:
    """The results of one training: its lines in the run directory's logs."""

    variant: Variant
    learning_rate: float
    epochs: list[dict[str, Any]]
    steps: list[dict[str, Any]]
    starts: list[dict[str, Any]]
    test_batches: list[dict[str, Any]]

    @property
    def label(self) -> str:
        return self.variant.label

    def values(self, key: str) -> list[float]:
        """One figure of each epoch."""
        return [epoch[key] for epoch in self.epochs]

    def mean(self, key: str) -> float:
        return sum(self.values(key)) / len(self.epochs)


_PUBLISHED_SENTENCE = (
    "This is not the published protocol: resnet18, 5 epochs of all 50,000 CIFAR-10 images, batch "
    "size 128, learning rate 0.1, momentum 0.9, weight decay 0.0005."
)


@dataclass(frozen=True)
class Results:
    """A finished run, as its report sees it. missing: the trainings that did not end."""

    directory: Path
    settings: Settings
    dataset: Dataset
    series: list[Series]
    missing: list[str]

    def by_optimizer(self) -> dict[str, list[Series]]:
        """The series of each optimizer: one for each seed."""
        found: dict[str, list[Series]] = {}
        for series in self.series:
            found.setdefault(series.variant.optimizer, []).append(series)
        return found


def load_results(
    directory: Path, settings: Settings, variants: Sequence[Variant], dataset: Dataset
) -> Results:
    """Reads a run's logs back: of the variants, those that were trained to their end."""

    def lines_of(name: str, file: str) -> list[dict[str, Any]]:
        return [line for line in read_json_lines(directory / file) if line["series"] == name]

    series = [
        Series(
            variant=variant,
            learning_rate=optimizer_options(settings, variant.optimizer).learning_rate,
            epochs=lines_of(variant.series, "epochs.jsonl"),
            steps=lines_of(variant.series, "steps.jsonl"),
            starts=lines_of(variant.series, "starts.jsonl"),
            test_batches=lines_of(variant.series, "test_batches.jsonl"),
        )
        for variant in variants
    ]
    finished = [one for one in series if len(one.epochs) == settings.training.epochs]
    missing = [one.label for one in series if one not in finished]
    return Results(directory, settings, dataset, finished, missing)


def write_summary(experiment: str, results: Results) -> None:
    """Writes summary.json: the main figures of each training."""
    summary = {
        "experiment": experiment,
        "images": results.dataset.words,
        "machine": _machines(results),
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


def describe_protocol(results: Results) -> str:
    """The settings and the machine in a sentence, and whether the protocol is the published one."""
    settings, dataset = results.settings, results.dataset
    training, model = settings.training, settings.model
    images = "synthetic images" if dataset.synthetic else "CIFAR-10 images"
    thin = "" if model.width == FULL_WIDTH else f" of width {model.width}"
    names = dict.fromkeys(series.variant.optimizer for series in results.series)
    momentum = any(get_optimizer(name).uses_momentum for name in names)
    with_momentum = f", momentum {training.momentum:g} where it applies" if momentum else ""
    rates = "; ".join(
        f"{get_optimizer(name).label} {optimizer_options(settings, name).learning_rate:g}"
        for name in names
    )
    seeds = ", ".join(dict.fromkeys(str(series.variant.seed) for series in results.series))
    waiting = ", waiting for each step" if training.sync_each_step else ""
    start = "" if model.init_from is None else f", starting from {model.init_from}"
    sentence = (
        f"{model.model}{thin} in {model.dtype}{start}, {plural(training.epochs, 'epoch')} of "
        f"{len(dataset.train):,} {images}, batch size {training.batch_size}, learning rate "
        f"({rates}){with_momentum}, weight decay {training.weight_decay:g}, seed {seeds}{waiting}; "
        f"{_machines(results)}"
    )
    if results.missing:
        sentence += f"; left out, since they did not end: {'; '.join(results.missing)}"
    if follows_published_protocol(settings, len(dataset.train), dataset.synthetic):
        return f"The published protocol: {sentence}."
    return f"{sentence}. {_PUBLISHED_SENTENCE}"


def means_and_deviations(
    group: Sequence[Series], key: str, scale: float = 1
) -> tuple[list[float], list[float] | None]:
    """By epoch, over the series of a group; no deviations of a single one."""
    by_epoch = list(zip(*(series.values(key) for series in group), strict=True))
    means = [scale * fmean(values) for values in by_epoch]
    return means, [scale * stdev(values) for values in by_epoch] if len(group) > 1 else None


def _machines(results: Results) -> str:
    """Where the steps were taken, which need not be where the report is made."""
    machines = [start["machine"] for series in results.series for start in series.starts]
    return " and ".join(dict.fromkeys(machines))
