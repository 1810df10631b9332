"""Images on their way into the network: normalisation, crops and flips, nothing lost."""

from collections.abc import Iterator, Mapping
from functools import partial

import jax
import numpy as np
from scipy.stats import binomtest, chisquare

from experiments.checks.fidelity.comparison import Case, Comparison, Part, compare_p
from experiments.checks.fidelity.options import CompareOptions
from experiments.pytorch.training import torch_crop, torch_normalise
from jaxresnet.data.augment import AUGMENTATIONS, CROP_PADDING, plan_epoch
from jaxresnet.data.dataset import Dataset, Split
from jaxresnet.data.loaders import LOADERS, LoaderOptions

_CROP_FLIP = AUGMENTATIONS["crop-flip"]
_SEED, _EPOCH, _BATCH_SIZE = 0, 1, 128
_DRAWS = 50_000


def _compare_normalisation(dataset: Dataset) -> list[Comparison]:
    values = np.repeat(np.arange(256, dtype=np.uint8), 3).reshape(1, 16, 16, 3)
    wrong = _wrong_inputs(values, values, dataset)
    return [Comparison("normalisation: values of 3 x 256 that differ", wrong, 0)]


def _compare_epoch(dataset: Dataset, loader: str) -> list[Comparison]:
    """One epoch as the training step sees it; and again, with indices in place of labels."""
    split, title = dataset.train, LOADERS[loader].title
    indices = Split(split.images, np.arange(len(split), dtype=np.int32))
    seen = np.zeros(len(split), int)
    wrong_values = wrong_labels = 0
    epochs = zip(_batches(split, loader), _batches(indices, loader), strict=True)
    for (images, labels), (_, order) in epochs:
        seen += np.bincount(order, minlength=len(split))
        wrong_values += _wrong_inputs(images, _torch_crops(split, order), dataset)
        wrong_labels += int((labels != split.labels[order]).sum())
    size = f"{title}, an epoch of {len(split):,} images"
    what = f"{size}, cropped, flipped, normalised: values that differ from PyTorch's for its draws"
    return [
        Comparison(what, wrong_values, 0),
        Comparison(f"{size}: labels that are wrong", wrong_labels, 0),
        Comparison(f"{size}: images lost or doubled", int((seen != 1).sum()), 0),
    ]


def _batches(split: Split, loader: str) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    feed = LoaderOptions(loader).create(split, _CROP_FLIP, _BATCH_SIZE, _SEED)
    read = jax.jit(feed.read)
    for arguments in feed.epoch(_EPOCH):
        images, labels = read(*arguments)
        yield np.asarray(images), np.asarray(labels)


def _wrong_inputs(images: np.ndarray, torch_images: np.ndarray, dataset: Dataset) -> int:
    """How many values differ between the two, each normalised by its side."""
    inputs = np.asarray(jax.jit(dataset.normalise)(images))
    expected = torch_normalise(torch_images, dataset.source).permute(0, 2, 3, 1).numpy()
    return int((inputs != expected).sum())


def _torch_crops(split: Split, indices: np.ndarray) -> np.ndarray:
    """As PyTorch crops and flips, with the draws of the plan."""
    draws = plan_epoch(_CROP_FLIP, _SEED, _EPOCH, len(split)).draws
    top, left, flip = (draws[name].tolist() for name in ("top", "left", "flip"))
    crops = [torch_crop(split.images[i], top[i], left[i], flip[i]) for i in indices]
    return np.stack(crops)


def _compare_draws() -> list[Comparison]:
    draws = plan_epoch(_CROP_FLIP, _SEED, _EPOCH, _DRAWS).draws
    side = 2 * CROP_PADDING + 1
    offsets = np.bincount(side * draws["top"] + draws["left"], minlength=side**2)
    flips = binomtest(int(draws["flip"].sum()), _DRAWS, 0.5)
    return [
        compare_p(f"crop offsets: chi-squared over {side**2} places", chisquare(offsets)),
        compare_p(f"flips of {_DRAWS:,}: binomial test of one half", flips),
    ]


def _cases(_: CompareOptions, dataset: Dataset) -> Mapping[str, Case]:
    return {
        "normalisation": partial(_compare_normalisation, dataset),
        **{kind.title: partial(_compare_epoch, dataset, name) for name, kind in LOADERS.items()},
        "crops and flips": _compare_draws,
    }


PART = Part(_cases)
