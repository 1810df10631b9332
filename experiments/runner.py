"""What the training experiments share: from settings to a run directory with results."""

import dataclasses
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from rich.console import Console
from rich.progress import Progress as RichProgress

from experiments.run_directory import open_run_directory
from experiments.settings import Settings, optimizer_options
from jaxresnet import platform
from jaxresnet.data.cache import cache_directory
from jaxresnet.data.dataset import Dataset
from jaxresnet.data.load import load_dataset
from jaxresnet.data.pipeline import TfDataLoader
from jaxresnet.data.resident import ResidentLoader
from jaxresnet.errors import UserError
from jaxresnet.models.resnet import Norm, create_model
from jaxresnet.optim import create_optimizer, get_optimizer
from jaxresnet.train.checkpoint import Checkpoints
from jaxresnet.train.interrupt import Stopped, StopRequest, stop_on_signals
from jaxresnet.train.loop import Diverged, Loader, Trainer, Training
from jaxresnet.train.metrics import RunLog, read_json_lines, write_json
from jaxresnet.train.progress import Progress
from jaxresnet.train.state import create_state, split_model


_PLAIN_WIDTH = 100


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


@dataclass(frozen=True)
class Results:
    """A finished run, as its report sees it."""

    directory: Path
    settings: Settings
    dataset: Dataset
    series: list[Series]


def run_command(main: Callable[[list[str]], None]) -> None:
    """Runs an experiment's main on the command line's arguments and exits with its status.

    0: done. 1: the training diverged. 2: bad input. 128 + n: stopped by signal n.
    """
    platform.keep_freed_memory()
    platform.cache_compiled_programs(cache_directory() / "compiled")
    error_console = Console(stderr=True)

    def show_warning(message, *_args, **_kwargs) -> None:
        error_console.print(f"warning: {message}", style="yellow", markup=False, soft_wrap=True)

    warnings.showwarning = show_warning
    try:
        main(sys.argv[1:])
    except UserError as error:
        error_console.print(f"error: {error}", style="red", markup=False, soft_wrap=True)
        sys.exit(2)
    except Diverged as error:
        error_console.print(f"error: {error}", style="red", markup=False, soft_wrap=True)
        sys.exit(1)
    except Stopped as stopped:
        error_console.print(f"{stopped}; the same command goes on from here", soft_wrap=True)
        sys.exit(stopped.exit_code)


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
    dataset = load_images(settings, console)
    with open_run_directory(experiment, settings, dataset) as directory:
        console.print(
            f"{experiment}: {settings.model.model} on {len(dataset.train):,} images "
            f"({dataset.words}, {dataset.location}); results in {directory}",
            highlight=False,
            soft_wrap=True,
        )
        log = RunLog(directory, dataset.words)
        with stop_on_signals() as stop:
            _train_all(settings, dataset, directory, log, console, stop, norm)
        log.close()
        results = load_results(directory, settings, dataset)
        report(results, console)
        _write_summary(experiment, results)
        console.print(f"report: {directory / 'report.md'}", highlight=False, soft_wrap=True)


def make_console() -> Console:
    """Standard output; wide enough for the tables where it is not a terminal."""
    return Console() if sys.stdout.isatty() else Console(width=_PLAIN_WIDTH)


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
) -> None:
    """Trains with each optimizer that the settings name."""
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
            Trainer(job, log, checkpoints, progress, stop).run()
            checkpoints.close()


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
    """Reads a finished run's logs back."""

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
    return Results(directory, settings, dataset, series)


def _write_summary(experiment: str, results: Results) -> None:
    summary = {
        "experiment": experiment,
        "images": results.dataset.words,
        "device": jax.devices()[0].device_kind,
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
    """The settings in a sentence, and whether they are the published ones."""
    settings, dataset = results.settings, results.dataset
    training, model = settings.training, settings.model
    thin = "" if model.width == 64 else f" of width {model.width}"
    sentence = (
        f"{model.model}{thin}, {model.dtype}, {training.epochs} epochs of {len(dataset.train):,} "
        f"{dataset.words if dataset.synthetic else 'CIFAR-10 images'}, batch size "
        f"{training.batch_size}, weight decay {training.weight_decay:g}, seed {training.seed}, "
        f"{platform.describe()['processor'] if jax.default_backend() == 'cpu' else jax.devices()[0].device_kind}."
    )
    published = (
        not dataset.synthetic
        and len(dataset.train) == 50_000
        and (model.model, model.width) == ("resnet18", 64)
        and dataclasses.replace(training, seed=0) == type(training)(
            **{field: getattr(training, field) for field in ("optimizer", "optimizers") if hasattr(training, field)}
        )
    )
    if published:
        return f"The published protocol: {sentence}"
    return f"Not the published protocol (ResNet-18, 5 epochs of 50,000 CIFAR-10 images): {sentence}"
