"""The recipe: all that the result of a training depends on, known before anything is built."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated

import jax

from jaxresnet.data.augment import AUGMENTATIONS
from jaxresnet.data.sources import ImageOptions
from jaxresnet.errors import UserError
from jaxresnet.models.resnet import ModelOptions
from jaxresnet.optim import OptimizerOptions
from jaxresnet.options import one_of, option, plural
from jaxresnet.train.figures import Labels, cross_entropy

_option = partial(option, affects="result", published=True)


@dataclass(frozen=True)
class StepOptions:
    """A training step."""

    batch_size: int = _option(128, says="batch size {}", always=True, at_least=1)
    """Images in a training step; the last of an epoch has what is left."""
    accumulate: int = _option(1, says="each batch in {} parts", at_least=1)
    """Take a batch in so many parts, in the memory of one: gradients are summed, and batch
    normalisation sees a part at a time."""
    seed: int = option(
        0, affects="result", published=False, says="seed {}", always=True, at_least=0, below=2**31
    )
    """Of the initial weights, the order of images and their augmentation."""
    label_smoothing: float = _option(0.0, says="label smoothing {:g}", at_least=0, below=1)
    """This share of each label goes to all classes alike, in training."""

    def check(self) -> None:
        """Raises UserError for more parts than images."""
        if self.accumulate > self.batch_size:
            raise UserError(
                f"--accumulate is {self.accumulate}, but --batch-size is {self.batch_size}: a part "
                "has one image at least"
            )

    def loss(self, logits: jax.Array, labels: Labels) -> jax.Array:
        """What training minimises the mean of: float32 (batch,), of logits (batch, classes)."""
        return cross_entropy(logits, labels, self.label_smoothing)


@dataclass(frozen=True)
class TrainingOptions(StepOptions):
    """And of how many, from where, and what becomes of the weights."""

    epochs: int = _option(5, says=partial(plural, noun="epoch"), always=True, at_least=1)
    """Passes over the training images."""
    augment: Annotated[str, one_of(AUGMENTATIONS, "augmentation")] = _option(
        "crop-flip", says="augmentation {}"
    )
    """What is done to training images at random."""
    ema: float | None = _option(None, says="averaged weights (decay {:g})", above=0, below=1)
    """Evaluate, and hand on, an exponential moving average of parameters and statistics: after each
    step so much of it stays. None: the weights themselves."""
    init_from: Path | None = _option(None, says="starting from {}")
    """Start from these weights: a .pth, .pt or .safetensors file by PyTorch's names, a run's
    directory (its newest checkpoint), or a directory of weights. None: drawn from the seed."""


@dataclass(frozen=True)
class Recipe:
    """Trainings of equal recipes have equal results, and share initial weights and programs."""

    images: ImageOptions = ImageOptions()
    model: ModelOptions = ModelOptions()
    optimizer: OptimizerOptions = OptimizerOptions()
    training: TrainingOptions = TrainingOptions()

    def check(self) -> None:
        """Raises UserError for options of different groups that contradict each other."""
        warmup, epochs = self.optimizer.warmup_epochs, self.training.epochs
        if warmup >= epochs:
            raise UserError(f"--warmup-epochs must be below --epochs, {epochs}, got {warmup:g}")
        if self.model.zero_init_residual and self.training.init_from is not None:
            raise UserError(
                "--zero-init-residual is for weights that are drawn, but --init-from gives them: "
                "leave one out"
            )
