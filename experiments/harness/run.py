"""From settings to a run directory with results: what the training experiments share."""

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Generic

from rich.console import Console

from experiments.harness.command import make_console, say
from experiments.harness.environment import describe_environment, git_revision
from experiments.harness.images import load_images
from experiments.harness.results import Results, Series, write_summary
from experiments.harness.run_directory import check_directory, default_directory, open_run_directory
from experiments.harness.settings import (
    Settings,
    SettingsT,
    Variant,
    given_by,
    make_variants,
    parse_settings,
)
from jaxresnet import platform
from jaxresnet.data.augment import AUGMENTATIONS
from jaxresnet.data.dataset import Dataset
from jaxresnet.errors import TrainingFailed, UserError
from jaxresnet.options import changed_options
from jaxresnet.report.document import Report, write_report
from jaxresnet.train import training as trainings
from jaxresnet.train.checkpoint import Checkpoints
from jaxresnet.train.clock import Diverged
from jaxresnet.train.figures import figures_for
from jaxresnet.train.interrupt import stop_on_signals
from jaxresnet.train.log import EventFiles, RunLog, lines_of
from jaxresnet.train.loop import Trainer
from jaxresnet.train.progress import Progress
from jaxresnet.train.state import TrainState
from jaxresnet.train.weights import weights_fingerprint


@dataclass
class Run(Generic[SettingsT]):
    """A run whose directory is open. diverged: what went wrong with some of its trainings."""

    experiment: str
    settings: SettingsT
    dataset: Dataset
    directory: Path
    console: Console
    events: EventFiles | None
    diverged: list[str] = field(default_factory=list)
    _programs: dict[Any, trainings.Programs] = field(default_factory=dict)

    def train(self, variants: list[Variant]) -> None:
        """Trains one after the other, each from where an earlier start stopped; see Trainer.run.

        One that diverges is noted, and the others are trained.
        """
        dataset = self.dataset
        start = {"machine": platform.machine(), "revision": git_revision()}
        sizes = (len(dataset.train), len(dataset.test))
        progress = Progress(self.console, len(variants), self.settings.training.epochs, *sizes)
        with (
            closing(RunLog(self.directory, dataset.title, start, self.events)) as log,
            stop_on_signals() as stop,
            progress,
        ):
            for variant in variants:
                training, options = self.training(variant), variant.settings.checkpoints
                directory = self.directory / "checkpoints" / variant.series
                try:
                    with closing(Checkpoints(directory, options)) as checkpoints:
                        Trainer(training, log, checkpoints, progress, stop, self.compile).run()
                except Diverged as error:
                    self.diverged.append(f"{variant.title}: {error}; try a lower --learning-rate")
                    progress.say(f"{variant.title}: diverged")

    def training(self, variant: Variant) -> trainings.Training:
        """All that a variant's training depends on, at its beginning."""
        recipe, loader = variant.settings.recipe, variant.settings.loader
        return trainings.build_training(variant.series, variant.title, recipe, self.dataset, loader)

    def compile(self, training: trainings.Training, state: TrainState) -> trainings.Programs:
        """compile_programs, which takes longer than a short training, once for equal trainings.

        Only the last programs are kept: trainings that share them come one after the other.
        """
        key = (training.recipe, type(training.loader))
        if key not in self._programs:
            self._programs = {key: trainings.compile_programs(training, state)}
        return self._programs[key]

    def finish(
        self, variants: list[Variant], report: Callable[[Results[SettingsT]], Report]
    ) -> None:
        """Reports what was trained to its end; raises TrainingFailed if a training diverged."""
        logs = [self.directory / f"{log.name}.jsonl" for log in fields(Series)[1:]]
        series = [Series(v, *(lines_of(v.series, log) for log in logs)) for v in variants]
        ended = [s for s in series if len(s.epochs) == s.variant.value("epochs")]
        missing = [s.variant.title for s in series if s not in ended]
        results = Results(self.directory, self.settings, self.dataset, ended, missing)
        if ended or not variants:
            write_report(self.directory, report(results), self.console)
            write_summary(self.experiment, results)
        if self.diverged:
            raise TrainingFailed("\n".join(self.diverged))


def run_experiment(
    experiment: str,
    description: str | None,
    settings_type: type[SettingsT],
    report: Callable[[Results[SettingsT]], Report],
    arguments: list[str],
) -> None:
    """Trains what the command line asks for, and reports. See open_run, Run.train, Run.finish."""
    settings = parse_settings(settings_type, experiment, description, arguments)
    with open_run(experiment, settings) as run:
        variants = make_variants(settings)
        run.train(variants)
        run.finish(variants, report)


@contextmanager
def open_run(experiment: str, settings: SettingsT) -> Iterator[Run[SettingsT]]:
    """Checks everything that can be checked, loads the images and opens the run's directory.

    Raises UserError, before anything long starts, if the data or the directory are not usable.
    """
    console, output, model = make_console(), settings.output, settings.model.model
    if output.verbose:
        for setting in platform.settings():
            say(console, f"{setting.name} = {setting.value}: {setting.why}")
    check_directory(output.out, experiment)
    dataset = load_images(settings.images, console)
    images = len(dataset.train)
    variants = make_variants(settings)
    for each in (variant.settings for variant in variants):
        each.loader.kind.check(dataset.train, AUGMENTATIONS[each.training.augment])
    batch_size = max(variant.settings.training.batch_size for variant in variants)
    if batch_size > images:
        raise UserError(
            f"{given_by(settings, 'batch_size')} is {batch_size:,}, but there are only {images:,} "
            "training images"
        )
    identity = run_identity(experiment, settings, dataset)
    directory = output.out or default_directory(experiment, f"{dataset.name}-{model}", identity)
    data = {
        "data_location": dataset.location,
        "data_fingerprint": identity["data fingerprint"],
        "data_left_out": dataset.left_out,
    }
    environment = {**describe_environment(), "images": dataset.title, **data}
    events = EventFiles(directory / "events") if output.tensorboard else None
    with open_run_directory(directory, identity, asdict(settings), environment, fresh=output.fresh):
        trained_on = f"{images:,} {dataset.title} ({dataset.location})"
        say(console, f"{experiment}: {model} on {trained_on}; results in {directory}")
        yield Run(experiment, settings, dataset, directory, console, events)


def run_identity(experiment: str, settings: Settings, dataset: Dataset) -> dict[str, Any]:
    """What the result depends on: two runs that agree in it are the same run."""
    options = result_options(settings)
    options |= {"--train-images": len(dataset.train), "--eval-images": len(dataset.test)}
    # Also tells now whether the weights fit, before anything is written.
    _, weights = trainings.initial_weights(settings.recipe, dataset)
    if settings.training.init_from is not None:
        options["--init-from"] = f"weights {weights_fingerprint(weights)}"
    return {
        "experiment": experiment,
        "images": dataset.title,
        # What its logs have.
        "figures": sorted(figure.name for figure in figures_for(len(dataset.class_names))),
        "normalisation": [dataset.source.mean, dataset.source.std],
        "data fingerprint": dataset.fingerprint(),
        # Times of two devices must not come together in one result.
        **({"device": platform.device()} if settings.timed else {}),
        **options,
    }


def result_options(settings: Settings) -> dict[str, Any]:
    """By flag, the options that the result depends on and that are not at their defaults."""
    affects = ("result", "time") if settings.timed else ("result",)
    return changed_options(settings, type(settings)(), affects)
