"""The options of the proof: what is compared, and at what size."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated

from jaxresnet.data.sources import SourceOptions
from jaxresnet.errors import UserError
from jaxresnet.models.resnet import MODELS
from jaxresnet.options import one_of, option, options_of, replace_options

# The modules of this package that hold a PART, and what the report calls it.
PARTS = {
    "layers": "Layers, with the same weights and inputs",
    "networks": "Whole networks, with PyTorch's weights",
    "optimizers": "Optimizers, from the same parameters",
    "data": "Images",
    "initialisation": "Initial weights of ResNet-18",
    "training": "Training ResNet-18, with the same weights and batches",
    "distribution": "Training ResNet-18 for one epoch, each side with its own draws",
}

_option = partial(option, affects="result", published=False, says="")


@dataclass(frozen=True)
class CompareOptions:
    """What is compared, and at what size."""

    parts: tuple[Annotated[str, one_of(PARTS, "part")], ...] = _option(
        tuple(PARTS), affects="nothing"
    )
    """Which parts to run; the others keep what an earlier start measured."""
    networks: tuple[Annotated[str, one_of(MODELS, "network")], ...] = _option(tuple(MODELS))
    """Of the part networks: each in all its variants."""
    width: int = _option(64, at_least=1)
    """Channels of the first stage of the networks."""
    steps: int = _option(30, at_least=1)
    """Of the part training: steps with each optimizer."""
    batch_size: int = _option(64, at_least=1)
    """Of the part training."""
    train_images: int = _option(4_000, at_least=1)
    """A fixed choice of so many images; the part distribution trains an epoch of them."""
    seeds: int = _option(24, at_least=2)
    """Of the part distribution: so many epochs on each side."""

    def check(self) -> None:
        """Raises UserError for an empty list, and for more steps than there are images."""
        for empty in (o for o in options_of(self) if o.value == ()):
            raise UserError(f"{empty.flag} needs at least one value")
        images = self.steps * self.batch_size
        if "training" in self.parts and images > self.train_images:
            raise UserError(
                f"--steps {self.steps} of --batch-size {self.batch_size} need {images:,} images, "
                f"but --train-images is {self.train_images:,}"
            )


@dataclass(frozen=True)
class ResultOptions:
    """Where results go."""

    out: Path | None = _option(None, affects="nothing")
    """The run's directory. None: runs/fidelity/<name made from the settings>."""
    fresh: bool = _option(False, affects="nothing")
    """Delete what an earlier start of this run left, and begin anew."""
    quick: bool = _option(False, affects="nothing")
    """Change the defaults to thin networks, fewer of them, and built-in images."""


@dataclass(frozen=True)
class FidelityOptions:
    """All options of the command."""

    source: SourceOptions = SourceOptions()
    compare: CompareOptions = CompareOptions()
    output: ResultOptions = ResultOptions()


QUICK = replace_options(
    FidelityOptions(),
    data="synthetic",
    networks=("resnet18", "resnet50"),
    width=8,
    train_images=2_000,
    seeds=4,
)
