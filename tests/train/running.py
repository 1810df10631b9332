"""Trains a tiny network for the tests of the loop."""

import contextlib
import dataclasses
import io
from pathlib import Path
from typing import Any

from rich.console import Console

from jaxresnet.data.dataset import Dataset
from jaxresnet.data.loaders import LoaderOptions
from jaxresnet.data.sources import ImageOptions, load_dataset
from jaxresnet.models.resnet import ModelOptions
from jaxresnet.options import replace_options
from jaxresnet.train.checkpoint import CheckpointOptions, Checkpoints
from jaxresnet.train.interrupt import StopRequest
from jaxresnet.train.log import RunLog, read_json_lines
from jaxresnet.train.loop import Trainer
from jaxresnet.train.progress import Progress
from jaxresnet.train.recipe import Recipe, TrainingOptions
from jaxresnet.train.state import TrainState
from jaxresnet.train.training import Training, build_training, compile_programs

EPOCHS, BATCH = 2, 16
IMAGES = ImageOptions(data="synthetic", train_images=72, eval_images=20)
DATA = load_dataset(IMAGES, on_progress=print, warn=print)  # five batches, the last of 8
START = {"machine": "here", "revision": "abc"}


class StoppingLoader:
    """A loader that asks the run to stop when it hands out its n-th batch."""

    def __init__(self, loader, stop: StopRequest, after: int | None):
        self._loader, self._stop, self._left = loader, stop, after
        self.arguments, self.read = loader.arguments, loader.read

    def epoch(self, epoch: int, first_batch: int = 0):
        for batch in self._loader.epoch(epoch, first_batch):
            if self._left is not None:
                self._left -= 1
                if self._left == 0:
                    self._stop.remember(15)
            yield batch


def make_training(
    *, loader="resident", workers=2, sync=False, dataset: Dataset = DATA, **options
) -> Training:
    recipe = Recipe(
        IMAGES,
        ModelOptions(model="tiny", width=4),
        training=TrainingOptions(epochs=EPOCHS, batch_size=BATCH),
    )
    loading = LoaderOptions(loader=loader, workers=workers, sync_each_step=sync)
    return build_training("sgd", "SGD", replace_options(recipe, **options), dataset, loading)


def train(
    directory: Path,
    training: Training,
    stop: StopRequest,
    output: io.StringIO,
    checkpoint_every: int,
    compiler=compile_programs,
) -> Checkpoints:
    directory.mkdir(exist_ok=True)
    log = RunLog(directory, DATA.title, START)
    checkpoints = Checkpoints(directory / "sgd", CheckpointOptions(checkpoint_every))
    progress = Progress(
        Console(file=output, width=200), 1, training.epochs, len(DATA.train), len(DATA.test)
    )
    with contextlib.closing(log), progress:
        Trainer(training, log, checkpoints, progress, stop, compiler).run()
    return checkpoints


def run(
    directory: Path, *, stop_after: int | None = None, checkpoint_every: int = 3, **options
) -> tuple[TrainState, str]:
    """Trains in `directory`; returns the last checkpoint and what was printed."""
    stop, output = StopRequest(), io.StringIO()
    training = make_training(**options)
    loader: Any = StoppingLoader(training.loader, stop, stop_after)
    training = dataclasses.replace(training, loader=loader)
    checkpoints = train(directory, training, stop, output, checkpoint_every)
    step = checkpoints.latest_step()
    assert step is not None
    return checkpoints.restore(step, like=training.initial_state), output.getvalue()


def figures(directory: Path) -> tuple[list, list]:
    """What the logs say of losses and answers, without times."""
    steps = [
        (s["step"], s["loss"], s["correct"]) for s in read_json_lines(directory / "steps.jsonl")
    ]
    epochs = [
        (e["epoch"], e["loss"], e["top1"], e["test_loss"], e["test_top1"])
        for e in read_json_lines(directory / "epochs.jsonl")
    ]
    return steps, epochs
