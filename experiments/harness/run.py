"""From settings to a run directory with results: what the training experiments share."""

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Generic

from rich.console import Console

from experiments.harness.command import make_console, say
from experiments.harness.environment import describe_environment, describe_start
from experiments.harness.images import load_images
from experiments.harness.results import Results, load_results, write_summary
from experiments.harness.run_directory import (
    check_directory,
    default_directory,
    open_run_directory,
)
from experiments.harness.settings import (
    Settings,
    SettingsType,
    Variant,
    make_variants,
    parse_settings,
)
from jaxresnet import platform
from jaxresnet.data.dataset import Dataset
from jaxresnet.errors import TrainingFailed, UserError
from jaxresnet.options import changed_options
from jaxresnet.report.document import Report, write_report
from jaxresnet.train.checkpoint import Checkpoints
from jaxresnet.train.clock import Diverged
from jaxresnet.train.interrupt import StopRequest, stop_on_signals
from jaxresnet.train.log import EventFiles, RunLog
from jaxresnet.train.loop import Trainer
from jaxresnet.train.progress import Progress
from jaxresnet.train.recipe import Recipe
from jaxresnet.train.state import TrainState
from jaxresnet.train.training import (
    Programs,
    Training,
    build_training,
    compile_programs,
    initial_weights,
)
from jaxresnet.train.weights import weights_fingerprint


@dataclass
class Run(Generic[SettingsType]):
    """A run whose directory is open. diverged: what went wrong with some of its trainings."""

    experiment: str
    settings: SettingsType
    dataset: Dataset
    directory: Path
    console: Console
    events: EventFiles | None
    diverged: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        # Compiling takes longer than a short training: equal ones share their programs.
        # Only the last: trainings that share them come one after the other.
        self._programs: dict[tuple[Recipe, type], Programs] = {}

    def train(self, variants: list[Variant]) -> None:
        """Trains them one after the other, each from where an earlier start stopped.

        Raises:
          Stopped: see Trainer.run. One that diverges is noted, and the others go on.
        """
        dataset, start = self.dataset, describe_start()
        sizes = (len(dataset.train), len(dataset.test))
        progress = Progress(self.console, len(variants), self.settings.training.epochs, *sizes)
        with (
            closing(RunLog(self.directory, dataset.title, start, self.events)) as log,
            stop_on_signals() as stop,
            progress,
        ):
            for variant in variants:
                self._train(variant, log, progress, stop)

    def _train(self, variant: Variant, log: RunLog, progress: Progress, stop: StopRequest) -> None:
        training = self.training(variant)
        directory = self.directory / "checkpoints" / variant.series
        try:
            with closing(Checkpoints(directory, variant.settings.checkpoints)) as checkpoints:
                Trainer(training, log, checkpoints, progress, stop, self.compile).run()
        except Diverged as error:
            self.diverged.append(f"{training.title}: {error}; try a lower --learning-rate")
            progress.say(f"{training.title}: diverged")

    def training(self, variant: Variant) -> Training:
        """All that a variant's training depends on, at its beginning."""
        settings = variant.settings
        return build_training(
            variant.series, variant.title, settings.recipe, self.dataset, settings.loader
        )

    def compile(self, training: Training, state: TrainState) -> Programs:
        """compile_programs, but for what was compiled before."""
        key = (training.recipe, type(training.loader))
        if key not in self._programs:
            self._programs = {key: compile_programs(training, state)}
        return self._programs[key]

    def finish(
        self, variants: list[Variant], report: Callable[[Results[SettingsType]], Report]
    ) -> None:
        """Reports what was trained to its end.

        Raises:
          TrainingFailed: some of the trainings diverged.
        """
        results = load_results(self.directory, self.settings, variants, self.dataset)
        if results.series or not variants:
            write_report(self.directory, report(results), self.console)
            write_summary(self.experiment, results)
        if self.diverged:
            raise TrainingFailed("\n".join(self.diverged))


def run_experiment(
    experiment: str,
    description: str | None,
    settings_type: type[SettingsType],
    report: Callable[[Results[SettingsType]], Report],
    arguments: list[str],
) -> None:
    """Trains what the command line asks for, and reports. See open_run, Run.train, Run.finish."""
    settings = parse_settings(settings_type, experiment, description or "", arguments)
    with open_run(experiment, settings) as run:
        variants = make_variants(settings)
        run.train(variants)
        run.finish(variants, report)


@contextmanager
def open_run(experiment: str, settings: SettingsType) -> Iterator[Run[SettingsType]]:
    """Checks everything that can be checked, loads the images and opens the run's directory.

    Raises:
      UserError: the data or the output directory are not usable; before anything long starts.
    """
    console, output = make_console(), settings.output
    if output.verbose:
        for setting in platform.settings():
            say(console, f"{setting.name} = {setting.value}: {setting.why}")
    if output.out is not None:
        check_directory(output.out, experiment)
    dataset = load_images(settings.images, console)
    variants = make_variants(settings)
    largest = max(variant.settings.training.batch_size for variant in variants)
    if largest > len(dataset.train):
        raise UserError(
            f"--batch-size is {largest:,}, but there are only {len(dataset.train):,} training "
            "images"
        )
    identity = run_identity(experiment, settings, dataset, variants)
    name = f"{dataset.name}-{settings.model.model}"
    directory = output.out or default_directory(experiment, name, identity)
    environment = {
        **describe_environment(),
        "images": dataset.title,
        "data_location": dataset.location,
        "data_fingerprint": identity["data fingerprint"],
    }
    events = EventFiles(directory / "events") if output.tensorboard else None
    with open_run_directory(directory, identity, asdict(settings), environment, fresh=output.fresh):
        say(
            console,
            f"{experiment}: {settings.model.model} on {len(dataset.train):,} {dataset.title} "
            f"({dataset.location}); results in {directory}",
        )
        yield Run(experiment, settings, dataset, directory, console, events)


def run_identity(
    experiment: str, settings: Settings, dataset: Dataset, variants: list[Variant]
) -> dict[str, Any]:
    """What the result depends on: two runs that agree in it are the same run."""
    options = result_options(settings)
    options |= {"--train-images": len(dataset.train), "--eval-images": len(dataset.test)}
    # Also finds out now whether the weights fit, before anything is written.
    _, weights = initial_weights(variants[0].settings.recipe, dataset)
    if settings.training.init_from is not None:
        options["--init-from"] = f"weights {weights_fingerprint(weights)}"
    # Times of two devices must not come together in one result.
    device = {"device": platform.device()} if settings.timed else {}
    return {
        "experiment": experiment,
        "images": dataset.title,
        "data fingerprint": dataset.fingerprint(),
        **device,
        **options,
    }


def result_options(settings: Settings) -> dict[str, Any]:
    """By flag, the options that the result depends on and that are not at their defaults."""
    affects = ("result", "time") if settings.timed else ("result",)
    return changed_options(settings, type(settings)(), affects)
