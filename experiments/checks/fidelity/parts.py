"""What the proof consists of: its parts, at what size, and comparisons with bounds."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np

from jaxresnet.data.dataset import Dataset
from jaxresnet.errors import UserError
from jaxresnet.models.resnet import MODELS
from jaxresnet.options import one_of, options_of, unpublished
from jaxresnet.report.tables import Table

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
_LEAST_P = 1e-5  # right draws fall below it with one seed in 100,000

_option = partial(unpublished, affects="result")


@dataclass(frozen=True)
class Size:
    """What is compared, and at what size."""

    parts: tuple[Annotated[str, one_of(PARTS, "part")], ...] = _option(
        tuple(PARTS), affects="nothing", distinct=True
    )
    """Which parts to run; the others keep what an earlier start measured."""
    networks: tuple[Annotated[str, one_of(MODELS, "network")], ...] = _option(
        tuple(MODELS), distinct=True
    )
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


class Comparison(NamedTuple):
    """A row of the proof."""

    what: str
    value: float
    bound: float
    relation: Literal["≤", "≥"] = "≤"

    @property
    def holds(self) -> bool:
        """False for NaN."""
        return self.value <= self.bound if self.relation == "≤" else self.value >= self.bound


def compare_p(what: str, *tests: Any, least: float = _LEAST_P) -> Comparison:
    """The smallest p-value of results of scipy.stats, which must not be too small."""
    return Comparison(f"{what}: p", float(min(test.pvalue for test in tests)), least, "≥")


def worst(differences: Iterable[float]) -> float:
    """The largest; NaN if one of them is, which Python's max may pass over."""
    return float(np.max(list(differences)))


# By case, what it measured, as JSON knows it: a list of comparisons unless the part says else.
Measured = Mapping[str, Any]
Cases = Mapping[str, Callable[[], Any]]


def _compare(measured: Measured) -> list[Comparison]:
    return [Comparison(*values) for comparisons in measured.values() for values in comparisons]


@dataclass(frozen=True)
class Part:
    """
    Attributes:
      cases: (size, images) -> what measures each case, by name; each is kept when it is finished.
      compare: the comparisons that follow from what was measured.
      note: below the table of comparisons.
      illustrate: (the run's directory, the images in words, what was measured) -> more tables, and
        the names of plots in the directory.
    """

    cases: Callable[[Size, Dataset], Cases]
    compare: Callable[[Measured], list[Comparison]] = _compare
    note: str = ""
    illustrate: Callable[[Path, str, Measured], tuple[list[Table], list[str]]] = lambda *_: ([], [])


def load_part(name: str) -> Part:
    """One of PARTS; needs torch."""
    return import_module(f"{__package__}.{name}").PART
