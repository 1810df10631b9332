"""What the training experiments share: from settings to a run directory with results."""

from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import jax.numpy as jnp
from flax import nnx
from rich.console import Console
from rich.progress import Progress as RichProgress

from experiments.command import make_console
from experiments.run_directory import (
    check_directory,
    default_directory,
    describe_environment,
    open_run_directory,
)
from experiments.settings import (
    FULL_WIDTH,
    Settings,
    follows_published_protocol,
    optimizer_options,
)
from jaxresnet import platform
from jaxresnet.data.dataset import Dataset
from jaxresnet.data.load import load_dataset
from jaxresnet.data.pipeline import TfDataLoader
from jaxresnet.data.resident import ResidentLoader
from jaxresnet.errors import TrainingFailed, UserError
from jaxresnet.models.resnet import Norm, create_model
from jaxresnet.optim import create_optimizer, get_optimizer
from jaxresnet.train.checkpoint import Checkpoints
from jaxresnet.train.interrupt import StopRequest, stop_on_signals
from jaxresnet.train.loop import Loader, Trainer, Training
from jaxresnet.train.metrics import RunLog, read_json_lines, write_json
from jaxresnet.train.progress import Progress
from jaxresnet.train.state import create_state, split_model
from jaxresnet.train.timing import Diverged

# Where the images came from and how they are fed makes no difference to the result: the
# fingerprint of the data set stands for them.
_FREE = {
    "data": {"data", "data_dir", "loader", "workers", "prefetch"},
    "output": {"out", "fresh", "quick", "checkpoint_every"},
}


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


def run_experiment(
    experiment: str,
    settings: Settings,
    report: Callable[[Results, Console], None],
    *,
    norm: Norm = "batch",
) -> None:
    """Trains with each optimizer in turn, going on where an earlier start stopped, and reports.

    Raises:
      UserError: the data or the output directory are not usable; before anything long starts.
      Stopped, Diverged: see Trainer.run.
    """
    console = make_console()
    if settings.output.out is not None:
        check_directory(settings.output.out, experiment)
    dataset = load_images(settings, console)
    if settings.training.batch_size > len(dataset.train):
        raise UserError(
            f"--batch-size is {settings.training.batch_size:,}, but there are only "
            f"{len(dataset.train):,} training images"
        )
    identity = run_identity(experiment, settings, dataset)
    name = f"{dataset.name}-{settings.model.model}"
    directory = settings.output.out or default_directory(experiment, name, identity)
    environment = {
        **describe_environment(),
        "images": dataset.words,
        "data_location": dataset.location,
        "data_fingerprint": identity["data fingerprint"],
    }
    fresh = settings.output.fresh
    with open_run_directory(directory, identity, asdict(settings), environment, fresh=fresh):
        _say(
            console,
            f"{experiment}: {settings.model.model} on {len(dataset.train):,} images "
            f"({dataset.words}, {dataset.location}); results in {directory}",
        )
        with (
            closing(RunLog(directory, dataset.words, platform.machine())) as log,
            stop_on_signals() as stop,
        ):
            diverged = _train_all(settings, dataset, directory, log, console, stop, norm)
        results = load_results(directory, settings, dataset)
        if results.series:
            report(results, console)
            _write_summary(experiment, results)
            _say(console, f"report: {directory / 'report.md'}")
        if diverged:
            raise TrainingFailed("\n".join(diverged))


def _say(console: Console, line: str) -> None:
    console.print(line, highlight=False, markup=False, soft_wrap=True)


def run_identity(experiment: str, settings: Settings, dataset: Dataset) -> dict[str, Any]:
    """What the result depends on, by option: two runs that agree in it are the same run."""
    options = {
        f"--{name.replace('_', '-')}": value
        for group, values in asdict(settings).items()
        for name, value in values.items()
        if name not in _FREE.get(group, ())
    }
    options["--train-images"] = len(dataset.train)
    options["--eval-images"] = len(dataset.test)
    return {
        "experiment": experiment,
        "images": dataset.words,
        "data fingerprint": dataset.fingerprint(),
        **options,
    }


def load_images(settings: Settings, console: Console) -> Dataset:
    """The images that the settings ask for, with a bar while they are decoded."""
    data = settings.data

    def warn(message: str) -> None:
        console.rule("[bold yellow]synthetic images", style="yellow")
        console.print(message, style="yellow", markup=False, highlight=False, soft_wrap=True)
        console.rule(style="yellow")

    with RichProgress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("decoding images, once", total=None, visible=False)
        return load_dataset(
            data.data,
            data.data_dir,
            data.train_images,
            data.eval_images,
            on_progress=lambda done, total: bar.update(
                task, completed=done, total=total, visible=True
            ),
            warn=warn,
        )


def _train_all(
    settings: Settings,
    dataset: Dataset,
    directory: Path,
    log: RunLog,
    console: Console,
    stop: StopRequest,
    norm: Norm,
) -> list[str]:
    """Trains with each optimizer that the settings name; returns what went wrong with some."""
    training = settings.training
    loader = _create_loader(settings, dataset)
    model = create_model(
        settings.model.model,
        num_classes=len(dataset.class_names),
        norm=norm,
        width=settings.model.width,
        dtype=jnp.dtype(settings.model.dtype),
        rngs=nnx.Rngs(training.seed),
    )
    network, params, batch_stats = split_model(model)
    progress = Progress(
        console, len(training.names), training.epochs, len(dataset.train), len(dataset.test)
    )
    diverged: list[str] = []
    with progress:
        for name in training.names:
            optimizer = create_optimizer(name, optimizer_options(settings, name))
            job = Training(
                series=name,
                label=get_optimizer(name).label,
                network=network,
                initial_state=create_state(params, batch_stats, optimizer),
                optimizer=optimizer,
                loader=loader,
                train_size=len(dataset.train),
                test=dataset.test,
                batch_size=training.batch_size,
                epochs=training.epochs,
                seed=training.seed,
                checkpoint_every=settings.output.checkpoint_every,
            )
            checkpoints = Checkpoints(directory / "checkpoints" / name)
            try:
                Trainer(job, log, checkpoints, progress, stop).run()
            except Diverged as error:
                diverged.append(f"{job.label}: {error}; try a lower --learning-rate")
                progress.say(f"{job.label}: diverged")
            finally:
                checkpoints.close()
    return diverged


def _create_loader(settings: Settings, dataset: Dataset) -> Loader:
    data, training = settings.data, settings.training
    if data.loader == "resident":
        return ResidentLoader(dataset.train, batch_size=training.batch_size, seed=training.seed)
    return TfDataLoader(
        dataset.train,
        batch_size=training.batch_size,
        seed=training.seed,
        workers=data.workers,
        prefetch=data.prefetch,
    )


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


def _write_summary(experiment: str, results: Results) -> None:
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
    sentence = (
        f"{model.model}{thin} in {model.dtype}, {_plural(training.epochs, 'epoch')} of "
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
