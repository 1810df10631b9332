"""Where images come from: the table of sources, and the options that choose among them."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

from jaxresnet.data.cifar import CIFAR10
from jaxresnet.data.dataset import Dataset, OnProgress, Source
from jaxresnet.data.synthetic import SYNTHETIC
from jaxresnet.errors import UserError
from jaxresnet.options import flag, one_of, option, unpublished

# By their names on the command line. `auto` takes the preferred source if there is a copy or a
# network, else the built-in one.
SOURCES: dict[str, Source] = {"cifar10": CIFAR10, "synthetic": SYNTHETIC}
_PREFERRED, _BUILT_IN = "cifar10", "synthetic"


@dataclass(frozen=True)
class SourceOptions:
    """Where images come from."""

    # Neither decides the result: the images' fingerprint does.
    data: Annotated[str, one_of({"auto": None, **SOURCES}, "data")] = unpublished(
        "auto", affects="nothing"
    )
    """auto: CIFAR-10 if there is a copy or a network, else built-in images. No other falls back."""
    data_dir: Path | None = unpublished(None, affects="nothing")
    """Where the data set is: a TFDS directory, the official python or binary folder, or class
    folders of images. None: the usual TFDS directory, else a download."""

    def check(self) -> None:
        """Raises UserError if the options contradict each other."""
        if self.data == _BUILT_IN and self.data_dir is not None:
            raise UserError(
                f"--data-dir is {self.data_dir}, but --data is {self.data} (--quick makes it so): "
                f"add --data {_PREFERRED}, or leave out --data-dir"
            )


@dataclass(frozen=True)
class ImageOptions(SourceOptions):
    """And how many of them."""

    train_images: int | None = option(
        None, affects="result", published=(None, CIFAR10.sizes["train"]), says="", at_least=1
    )
    """Train on a fixed choice of so many images. None: all of them."""
    eval_images: int | None = option(
        None, affects="result", published=(None, CIFAR10.sizes["test"]), says="", at_least=1
    )
    """Evaluate on a fixed choice of so many test images. None: all of them."""


def load_dataset(
    options: ImageOptions, *, on_progress: OnProgress, warn: Callable[[str], None]
) -> Dataset:
    """Loads the images asked for; `warn` is told if "auto" falls back to the built-in ones.

    Raises:
      UserError: the data are not available, are damaged, or fewer than asked for.
    """
    name = _PREFERRED if options.data == "auto" else options.data
    wanted = options.train_images, options.eval_images
    try:
        dataset = SOURCES[name].load(options.data_dir, wanted, on_progress)
    except OSError as error:
        built_in = SOURCES[_BUILT_IN]
        if options.data != "auto":
            raise UserError(f"{error}\nor use {built_in.title} with --data {_BUILT_IN}") from error
        warn(f"{error}\nusing {built_in.title} instead")
        dataset = built_in.load(options.data_dir, wanted, on_progress)
    return replace(
        dataset,
        train=dataset.train.subset(options.train_images, flag("train_images")),
        test=dataset.test.subset(options.eval_images, flag("eval_images")),
    )
