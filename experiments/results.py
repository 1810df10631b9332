"""The results of a run, as its report sees them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments.settings import (
    FULL_WIDTH,
    Settings,
    follows_published_protocol,
    optimizer_options,
)
from jaxresnet.data.dataset import Dataset
from jaxresnet.optim import get_optimizer
from jaxresnet.train.metrics import read_json_lines, write_json


@dataclass(frozen=True)
class Series:
    """The results of one training: its lines in the run directory's logs."""

    name: str
    label: str
    learning_rate: float
    epochs: list[dict[str, Any]]
    steps: list[dict[str, Any]]
    starts: list[dict[str, Any]]
    test_batches: list[dict[str, Any]]

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
    """A finished run, as its report sees it."""

    directory: Path
    settings: Settings
    dataset: Dataset
    series: list[Series]


def load_results(directory: Path, settings: Settings, dataset: Dataset) -> Results:
    """Reads a run's logs back: the series that were trained to their end."""

    def lines_of(name: str, file: str) -> list[dict[str, Any]]:
        return [line for line in read_json_lines(directory / file) if line["series"] == name]

    series = [
        Series(
            name=name,
            label=get_optimizer(name).label,
            learning_rate=optimizer_options(settings, name).learning_rate,
            epochs=lines_of(name, "epochs.jsonl"),
            steps=lines_of(name, "steps.jsonl"),
            starts=lines_of(name, "starts.jsonl"),
            test_batches=lines_of(name, "test_batches.jsonl"),
        )
        for name in settings.training.names
    ]
    finished = [one for one in series if len(one.epochs) == settings.training.epochs]
    return Results(directory, settings, dataset, finished)


def write_summary(experiment: str, results: Results) -> None:
    """Writes summary.json: the main figures of each training."""
    summary = {
        "experiment": experiment,
        "images": results.dataset.words,
        "machine": _machines(results),
        "series": {
            series.name: {
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
    write_json(results.directory / "summary.json", summary)


def describe_protocol(results: Results) -> str:
    """The settings and the machine in a sentence, and whether the protocol is the published one."""
    settings, dataset = results.settings, results.dataset
    training, model = settings.training, settings.model
    images = "synthetic images" if dataset.synthetic else "CIFAR-10 images"
    thin = "" if model.width == FULL_WIDTH else f" of width {model.width}"
    momentum = any(get_optimizer(series.name).uses_momentum for series in results.series)
    with_momentum = f", momentum {training.momentum:g} where it applies" if momentum else ""
    rates = "; ".join(f"{series.label} {series.learning_rate:g}" for series in results.series)
    start = "" if model.init_from is None else f", starting from {model.init_from}"
    sentence = (
        f"{model.model}{thin} in {model.dtype}{start}, {_plural(training.epochs, 'epoch')} of "
        f"{len(dataset.train):,} {images}, batch size {training.batch_size}, learning rate "
        f"({rates}){with_momentum}, weight decay {training.weight_decay:g}, seed {training.seed}; "
        f"{_machines(results)}"
    )
    if follows_published_protocol(settings, len(dataset.train), dataset.synthetic):
        return f"The published protocol: {sentence}."
    return f"{sentence}. {_PUBLISHED_SENTENCE}"


def _plural(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _machines(results: Results) -> str:
    """Where the steps were taken, which need not be where the report is made."""
    machines = [start["machine"] for series in results.series for start in series.starts]
    return " and ".join(dict.fromkeys(machines))
