"""What the training experiments share: from settings to a run directory with results."""

from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Any

import jax.numpy as jnp
from flax import nnx
from rich.console import Console

from experiments.command import make_console, say
from experiments.images import load_images
from experiments.results import Results, load_results, write_summary
from experiments.run_directory import (
    check_directory,
    default_directory,
    describe_environment,
    open_run_directory,
)
from experiments.settings import (
    Settings,
    optimizer_options,
)
from jaxresnet import platform
from jaxresnet.data.dataset import Dataset
from jaxresnet.data.pipeline import TfDataLoader
from jaxresnet.data.resident import ResidentLoader
from jaxresnet.errors import TrainingFailed, UserError
from jaxresnet.models.resnet import Norm, create_model
from jaxresnet.models.torch_weights import Weights
from jaxresnet.optim import create_optimizer, get_optimizer
from jaxresnet.train.checkpoint import Checkpoints
from jaxresnet.train.interrupt import StopRequest, stop_on_signals
from jaxresnet.train.loop import Loader, Trainer, Training
from jaxresnet.train.metrics import RunLog
from jaxresnet.train.progress import Progress
from jaxresnet.train.state import Network, create_state, split_model
from jaxresnet.train.timing import Diverged
from jaxresnet.train.weights import load_weights, weights_fingerprint

# Where the images came from and how they are fed makes no difference to the result: the
# fingerprint of the data set stands for them, as that of the weights does for --init-from.
_FREE = {
    "data": {"data", "data_dir", "loader", "workers", "prefetch"},
    "model": {"init_from"},
    "output": {"out", "fresh", "quick", "verbose", "checkpoint_every"},
}


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
    if settings.output.verbose:
        for setting in platform.settings():
            say(console, f"{setting.name} = {setting.value}: {setting.why}")
    if settings.output.out is not None:
        check_directory(settings.output.out, experiment)
    data = settings.data
    dataset = load_images(data, data.train_images, data.eval_images, console)
    if settings.training.batch_size > len(dataset.train):
        raise UserError(
            f"--batch-size is {settings.training.batch_size:,}, but there are only "
            f"{len(dataset.train):,} training images"
        )
    network, weights = _create_network(settings, dataset, norm)
    identity = run_identity(experiment, settings, dataset, weights)
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
        say(
            console,
            f"{experiment}: {settings.model.model} on {len(dataset.train):,} images "
            f"({dataset.words}, {dataset.location}); results in {directory}",
        )
        with (
            closing(RunLog(directory, dataset.words, platform.machine())) as log,
            stop_on_signals() as stop,
        ):
            diverged = _train_all(
                settings, dataset, network, weights, directory, log, console, stop
            )
        results = load_results(directory, settings, dataset)
        if results.series:
            report(results, console)
            write_summary(experiment, results)
            say(console, f"report: {directory / 'report.md'}")
        if diverged:
            raise TrainingFailed("\n".join(diverged))


def _create_network(settings: Settings, dataset: Dataset, norm: Norm) -> tuple[Network, Weights]:
    """The network with its first weights: drawn from the seed, or from --init-from."""
    model = create_model(
        settings.model.model,
        num_classes=len(dataset.class_names),
        norm=norm,
        width=settings.model.width,
        dtype=jnp.dtype(settings.model.dtype),
        convolution=settings.model.convolution,
        rngs=nnx.Rngs(settings.training.seed),
    )
    network, params, batch_stats = split_model(model)
    drawn = Weights(params, batch_stats)
    path = settings.model.init_from
    return network, drawn if path is None else load_weights(path, like=drawn)


def run_identity(
    experiment: str, settings: Settings, dataset: Dataset, weights: Weights
) -> dict[str, Any]:
    """What the result depends on, by option: two runs that agree in it are the same run."""
    options = {
        f"--{name.replace('_', '-')}": value
        for group, values in asdict(settings).items()
        for name, value in values.items()
        if name not in _FREE.get(group, ())
    }
    options["--train-images"] = len(dataset.train)
    options["--eval-images"] = len(dataset.test)
    if settings.model.init_from is not None:
        options["--init-from"] = f"weights {weights_fingerprint(weights)}"
    return {
        "experiment": experiment,
        "images": dataset.words,
        "data fingerprint": dataset.fingerprint(),
        **options,
    }


def _train_all(
    settings: Settings,
    dataset: Dataset,
    network: Network,
    weights: Weights,
    directory: Path,
    log: RunLog,
    console: Console,
    stop: StopRequest,
) -> list[str]:
    """Trains with each optimizer that the settings name; returns what went wrong with some."""
    training = settings.training
    loader = _create_loader(settings, dataset)
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
                initial_state=create_state(weights.params, weights.batch_stats, optimizer),
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
