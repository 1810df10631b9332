"""What the training experiments share: from settings to a run directory with results."""

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import jax.numpy as jnp
from flax import nnx
from rich.console import Console

from experiments.command import make_console, say
from experiments.images import load_images
from experiments.protocol import optimizer_options
from experiments.results import Results, load_results, write_summary
from experiments.run_directory import (
    check_directory,
    default_directory,
    describe_environment,
    open_run_directory,
)
from experiments.settings import Settings, TimedSettings
from experiments.variants import Variant
from jaxresnet import platform
from jaxresnet.data.dataset import Dataset
from jaxresnet.data.pipeline import TfDataLoader
from jaxresnet.data.resident import ResidentLoader
from jaxresnet.errors import TrainingFailed, UserError
from jaxresnet.models.resnet import Norm, create_model
from jaxresnet.models.torch_weights import Weights
from jaxresnet.optim import create_optimizer
from jaxresnet.train.checkpoint import Checkpoints
from jaxresnet.train.events import EventFiles
from jaxresnet.train.interrupt import StopRequest, stop_on_signals
from jaxresnet.train.loop import Trainer
from jaxresnet.train.metrics import RunLog
from jaxresnet.train.progress import Progress
from jaxresnet.train.state import Network, TrainState, create_state, split_model
from jaxresnet.train.timing import Diverged
from jaxresnet.train.training import Loader, Programs, Training, compile_programs
from jaxresnet.train.weights import load_weights, weights_fingerprint

# Where the images came from and how they are fed makes no difference to the result: the
# fingerprint of the data set stands for them, as that of the weights does for --init-from.
_FREE = {
    "data": {"data", "data_dir", "loader", "workers", "prefetch"},
    "model": {"init_from"},
    "output": {"out", "fresh", "quick", "verbose", "checkpoint_every", "tensorboard"},
}
# Where times are the result, how images are fed belongs to it.
_FREE_WHEN_TIMED = {
    "data": {"data", "data_dir"},
    "timing": {"devices", "with_runs", "trace"},
}


@dataclass
class Run:
    """A run whose directory is open. diverged: what went wrong with some of its trainings."""

    experiment: str
    settings: Settings
    dataset: Dataset
    norm: Norm
    directory: Path
    console: Console
    events: EventFiles | None
    diverged: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        # Compiling takes longer than a short training: equal ones share their programs.
        # Only the last: trainings that share them come one after the other.
        self._programs: dict[tuple[str, int], Programs] = {}

    def train(self, variants: list[Variant]) -> None:
        """Trains them one after the other, going on where an earlier start stopped.

        Raises:
          Stopped: see Trainer.run. One that diverges is noted, and the others go on.
        """
        epochs, dataset = self.settings.training.epochs, self.dataset
        progress = Progress(
            self.console, len(variants), epochs, len(dataset.train), len(dataset.test)
        )
        words, machine = dataset.words, platform.machine()
        with (
            closing(RunLog(self.directory, words, machine, self.events)) as log,
            stop_on_signals() as stop,
            progress,
        ):
            for variant in variants:
                self._train(variant, log, progress, stop)

    def _train(self, variant: Variant, log: RunLog, progress: Progress, stop: StopRequest) -> None:
        training = self.training(variant)
        checkpoints = Checkpoints(self.directory / "checkpoints" / variant.series)
        try:
            Trainer(training, log, checkpoints, progress, stop, self.compiler(variant)).run()
        except Diverged as error:
            self.diverged.append(f"{training.label}: {error}; try a lower --learning-rate")
            progress.say(f"{training.label}: diverged")
        finally:
            checkpoints.close()

    def compiler(self, variant: Variant) -> Callable[[Training, TrainState], Programs]:
        """compile_programs, but for what was compiled before."""

        def compile_once(training: Training, state: TrainState) -> Programs:
            key = (variant.optimizer, variant.seed)
            if key not in self._programs:
                self._programs = {key: compile_programs(training, state)}
            return self._programs[key]

        return compile_once

    def training(self, variant: Variant) -> Training:
        """All that a variant's training depends on, at its beginning."""
        settings = self.settings
        optimizer = create_optimizer(
            variant.optimizer, optimizer_options(settings, variant.optimizer)
        )
        network, weights = _create_network(settings, self.dataset, self.norm, variant.seed)
        return Training(
            series=variant.series,
            label=variant.label,
            network=network,
            initial_state=create_state(weights.params, weights.batch_stats, optimizer),
            optimizer=optimizer,
            loader=create_loader(settings, self.dataset, variant),
            train_size=len(self.dataset.train),
            test=self.dataset.test,
            batch_size=settings.training.batch_size,
            epochs=settings.training.epochs,
            seed=variant.seed,
            checkpoint_every=settings.output.checkpoint_every,
            sync_each_step=settings.training.sync_each_step,
        )

    def finish(self, variants: list[Variant], report: Callable[[Results, Console], None]) -> None:
        """Reports what was trained to its end.

        Raises:
          TrainingFailed: some of the trainings diverged.
        """
        results = load_results(self.directory, self.settings, variants, self.dataset)
        if results.series or not variants:
            report(results, self.console)
            write_summary(self.experiment, results)
            say(self.console, f"report: {self.directory / 'report.md'}")
        if self.diverged:
            raise TrainingFailed("\n".join(self.diverged))


@contextmanager
def open_run(experiment: str, settings: Settings, *, norm: Norm = "batch") -> Iterator[Run]:
    """Checks everything that can be checked, loads the images and opens the run's directory.

    Raises:
      UserError: the data or the output directory are not usable; before anything long starts.
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
    _, weights = _create_network(settings, dataset, norm, settings.training.all_seeds[0])
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
    events = EventFiles(directory / "events") if settings.output.tensorboard else None
    with open_run_directory(directory, identity, asdict(settings), environment, fresh=fresh):
        say(
            console,
            f"{experiment}: {settings.model.model} on {len(dataset.train):,} images "
            f"({dataset.words}, {dataset.location}); results in {directory}",
        )
        yield Run(experiment, settings, dataset, norm, directory, console, events)


def run_experiment(
    experiment: str,
    settings: Settings,
    report: Callable[[Results, Console], None],
    *,
    norm: Norm = "batch",
) -> None:
    """Trains what the settings name, and reports. See open_run, Run.train and Run.finish."""
    with open_run(experiment, settings, norm=norm) as run:
        run.train(settings.variants())
        run.finish(settings.variants(), report)


def _create_network(
    settings: Settings, dataset: Dataset, norm: Norm, seed: int
) -> tuple[Network, Weights]:
    """The network with its first weights: drawn from the seed, or from --init-from."""
    model = create_model(
        settings.model.model,
        num_classes=len(dataset.class_names),
        norm=norm,
        width=settings.model.width,
        dtype=jnp.dtype(settings.model.dtype),
        convolution=settings.model.convolution,
        rngs=nnx.Rngs(seed),
    )
    network, params, batch_stats = split_model(model)
    drawn = Weights(params, batch_stats)
    path = settings.model.init_from
    return network, drawn if path is None else load_weights(path, like=drawn)


def run_identity(
    experiment: str, settings: Settings, dataset: Dataset, weights: Weights
) -> dict[str, Any]:
    """What the result depends on, by option: two runs that agree in it are the same run."""
    options = result_options(settings)
    options["--train-images"] = len(dataset.train)
    options["--eval-images"] = len(dataset.test)
    if settings.model.init_from is not None:
        options["--init-from"] = f"weights {weights_fingerprint(weights)}"
    # Times of two devices must not come together in one result.
    device = {"device": platform.device()} if isinstance(settings, TimedSettings) else {}
    return {
        "experiment": experiment,
        "images": dataset.words,
        "data fingerprint": dataset.fingerprint(),
        **device,
        **options,
    }


def result_options(settings: Settings) -> dict[str, Any]:
    """The options that the result depends on, by their names on the command line."""
    free = _FREE | _FREE_WHEN_TIMED if isinstance(settings, TimedSettings) else _FREE
    return {
        f"--{name.replace('_', '-')}": value
        for group, values in asdict(settings).items()
        for name, value in values.items()
        if name not in free.get(group, ())
    }


def create_loader(settings: Settings, dataset: Dataset, variant: Variant) -> Loader:
    """The training images as the settings and the variant want them fed."""
    data, batch_size = settings.data, settings.training.batch_size
    if data.loader == "resident":
        return ResidentLoader(dataset.train, batch_size=batch_size, seed=variant.seed)
    return TfDataLoader(
        dataset.train,
        batch_size=batch_size,
        seed=variant.seed,
        workers=variant.workers,
        prefetch=data.prefetch,
    )
