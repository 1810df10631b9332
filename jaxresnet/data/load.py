"""Which images a run uses: CIFAR-10 from wherever it can be had, or the built-in ones."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Literal

from jaxresnet.data import cifar10
from jaxresnet.data.dataset import Dataset, OnProgress
from jaxresnet.data.synthetic import load_synthetic
from jaxresnet.errors import UserError

DataChoice = Literal["auto", "cifar10", "synthetic"]

_THREE_WAYS = """three ways to get CIFAR-10:
  1. --data-dir DIR with {accepted}
  2. put a TFDS copy in {usual}
  3. connect to the network once: it is then downloaded there
or train on the built-in images with --data synthetic"""


def load_dataset(
    choice: DataChoice,
    data_dir: Path | None,
    train_images: int | None,
    eval_images: int | None,
    *,
    on_progress: OnProgress,
    warn: Callable[[str], None],
) -> Dataset:
    """Loads the images that the settings ask for.

    on_progress: called with (done, in all) while images are decoded.
    warn: called with a message when "auto" falls back to synthetic images.

    Raises:
      UserError: the data cannot be had, are damaged, or fewer than asked for.
    """
    if choice == "synthetic":
        return load_synthetic(train_images, eval_images)
    try:
        directory = _cifar10_directory(data_dir)
    except OSError as error:
        ways = _THREE_WAYS.format(accepted=cifar10.ACCEPTED, usual=cifar10.usual_directory())
        if choice == "cifar10":
            raise UserError(f"CIFAR-10 cannot be had: {error}\n{ways}") from error
        warn(f"CIFAR-10 cannot be had ({error}): using synthetic images instead.\n{ways}")
        return load_synthetic(train_images, eval_images)
    try:
        dataset = cifar10.load_cifar10(directory, on_progress)
    except OSError as error:
        raise UserError(f"{directory} cannot be read: {error}") from error
    return replace(
        dataset,
        train=dataset.train.subset(train_images, "--train-images"),
        test=dataset.test.subset(eval_images, "--eval-images"),
    )


def _cifar10_directory(data_dir: Path | None) -> Path:
    """The given directory, else the usual one if it holds CIFAR-10, else a fresh download."""
    if data_dir is not None:
        return data_dir.expanduser()
    usual = cifar10.usual_directory()
    return usual if cifar10.find_cifar10(usual) else cifar10.download_cifar10()
