"""Images on their way into the network: normalisation, crops and flips, nothing lost."""

from collections.abc import Iterator
from functools import partial

import jax
import numpy as np
from scipy.stats import binomtest, chisquare

from experiments.checks.fidelity.parts import Cases, Comparison, Part, Size, compare_p
from experiments.pytorch.training import torch_crop, torch_normalise
from jaxresnet.data.augment import AUGMENTATIONS, plan_epoch
from jaxresnet.data.dataset import Dataset, Split
from jaxresnet.data.loaders import LOADERS, LoaderOptions

_CROP_FLIP = AUGMENTATIONS["crop-flip"]
_SEED, _EPOCH, _BATCH_SIZE = 0, 1, 128
_DRAWS = 50_000


def _compare_normalisation(dataset: Dataset) -> list[Comparison]:
    values = np.repeat(np.arange(256, dtype=np.uint8), 3).reshape(1, 16, 16, 3)
    differing = _wrong_inputs(values, values, dataset)
    return [Comparison("normalisation: values of 3 x 256 that differ", differing, 0)]


def _wrong_inputs(images: np.ndarray, torch_images: np.ndarray, dataset: Dataset) -> int:
    """How many values differ between the two, each normalised by its side."""
    inputs = np.asarray(jax.jit(dataset.normalise)(images))
    expected = torch_normalise(torch_images, dataset.source).permute(0, 2, 3, 1).numpy()
    return int((inputs != expected).sum())


def _compare_epoch(dataset: Dataset, loader: str) -> list[Comparison]:
    """One epoch as the training step sees it; and again, with indices in place of labels."""
    split = dataset.train
    plan = plan_epoch(_CROP_FLIP, _SEED, _EPOCH, len(split))
    draws = np.stack([plan.draws[name] for name in ("top", "left", "flip")], axis=1).tolist()
    indices = Split(split.pixels, np.arange(len(split), dtype=np.int32))
    seen = np.zeros(len(split), int)
    wrong_values = wrong_labels = 0
    epochs = zip(_batches(split, loader), _batches(indices, loader), strict=True)
    for (images, labels), (_, order) in epochs:
        seen += np.bincount(order, minlength=len(split))
        crops = np.stack([torch_crop(split.pixels[i], *draws[i]) for i in order])
        wrong_values += _wrong_inputs(images, crops, dataset)
        wrong_labels += int((labels != split.labels[order]).sum())
    size = f"{loader} loader, an epoch of {len(split):,} images"
    what = f"{size}, cropped, flipped, normalised: values that differ from PyTorch's for its draws"
    return [
        Comparison(what, wrong_values, 0),
        Comparison(f"{size}: labels that are wrong", wrong_labels, 0),
        Comparison(f"{size}: images lost or doubled", int((seen != 1).sum()), 0),
    ]


def _batches(split: Split, loader: str) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    feed = LoaderOptions(loader=loader).create(split, _CROP_FLIP, _BATCH_SIZE, _SEED)
    read = jax.jit(feed.read)
    for arguments in feed.epoch(_EPOCH):
        images, labels = read(*arguments)
        yield np.asarray(images), np.asarray(labels)


def _compare_draws() -> list[Comparison]:
    draws = plan_epoch(_CROP_FLIP, _SEED, _EPOCH, _DRAWS).draws
    side = _CROP_FLIP.draws["left"]
    offsets = np.bincount(side * draws["top"] + draws["left"], minlength=side**2)
    flips = binomtest(int(draws["flip"].sum()), _DRAWS, 0.5)
    return [
        compare_p(f"crop offsets: chi-squared over {side**2} offsets", chisquare(offsets)),
        compare_p(f"flips of {_DRAWS:,}: binomial test of one half", flips),
    ]


def _cases(_: Size, dataset: Dataset) -> Cases:
    return {
        "normalisation": partial(_compare_normalisation, dataset),
        **{f"{name} loader": partial(_compare_epoch, dataset, name) for name in LOADERS},
        "crops and flips": _compare_draws,
    }


PART = Part(_cases)
