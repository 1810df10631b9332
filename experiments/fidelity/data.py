"""Images on their way into the network: normalisation, crops and flips, nothing lost."""

import math
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
import torch

from experiments.fidelity.comparison import Comparison
from experiments.pytorch.training import torch_normalise
from jaxresnet.data.augment import CROP_PADDING, EpochPlan, normalise, plan_epoch
from jaxresnet.data.dataset import Split
from jaxresnet.data.pipeline import TfDataLoader

_SEED, _EPOCH, _BATCH_SIZE = 0, 1, 128
_DRAWS = 50_000
_PLACES = (2 * CROP_PADDING + 1) ** 2
# A chi-squared of 80 degrees of freedom exceeds 146 once in 100,000 draws; so does a normal
# variable 4.4 standard deviations.
_CHI_SQUARED = 146.0
_STANDARD_ERRORS = 4.4


def compare_data(split: Split) -> list[Comparison]:
    """One epoch of the tf.data loader over `split`, and 50,000 draws of crops and flips."""
    plan = plan_epoch(_SEED, _EPOCH, len(split))
    marked = Split(split.images, np.arange(len(split), dtype=np.int32))
    seen = np.zeros(len(split), np.int64)
    wrong_pixels = wrong_labels = 0
    for (images, marks), (_, labels) in zip(_epoch(marked), _epoch(split), strict=True):
        seen += np.bincount(marks, minlength=len(split))
        inputs = np.asarray(jax.jit(normalise)(jnp.asarray(images)))
        expected = torch_normalise(_torch_crops(split, marks, plan)).permute(0, 2, 3, 1).numpy()
        wrong_pixels += int((inputs != expected).sum())
        wrong_labels += int((labels != split.labels[marks]).sum())
    draws = plan_epoch(_SEED, _EPOCH, _DRAWS)
    return [
        Comparison("normalisation: values of 3 x 256 that differ", _normalisation_errors(), 0),
        Comparison(
            f"an epoch of {len(split):,} images, cropped, flipped, normalised: values that "
            "differ from PyTorch's for the same draws",
            wrong_pixels,
            0,
        ),
        Comparison("labels of that epoch that are wrong", wrong_labels, 0),
        Comparison("images of that epoch lost or doubled", int((seen != 1).sum()), 0),
        Comparison(
            f"crop offsets: chi-squared over {_PLACES} places", _chi_squared(draws), _CHI_SQUARED
        ),
        Comparison(
            "flips: standard errors from one half",
            abs(draws.flip.mean() - 0.5) * 2 * math.sqrt(_DRAWS),
            _STANDARD_ERRORS,
        ),
    ]


def _epoch(split: Split) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The loader's batches; their labels, where those are marks, tell which images came."""
    loader = TfDataLoader(split, batch_size=_BATCH_SIZE, seed=_SEED, workers=2, prefetch=2)
    for images, labels in loader.epoch(_EPOCH):
        yield np.asarray(images), np.asarray(labels)


def _normalisation_errors() -> int:
    values = np.repeat(np.arange(256, dtype=np.uint8), 3).reshape(1, 16, 16, 3)
    ours = np.asarray(jax.jit(normalise)(jnp.asarray(values)))
    theirs = torch_normalise(values).permute(0, 2, 3, 1).numpy()
    return int((ours != theirs).sum())


def _torch_crops(split: Split, indices: np.ndarray, plan: EpochPlan) -> np.ndarray:
    """torchvision's pad, crop and flip, in PyTorch, with the draws of the plan."""
    height, width = split.images.shape[1:3]
    images = torch.from_numpy(split.images[indices]).permute(0, 3, 1, 2)
    padded = torch.nn.functional.pad(images, [CROP_PADDING] * 4)
    crops = []
    for image, index in zip(padded, indices, strict=True):
        top, left = plan.top[index], plan.left[index]
        crop = image[:, top : top + height, left : left + width]
        crops.append(crop.flip(-1) if plan.flip[index] else crop)
    return torch.stack(crops).permute(0, 2, 3, 1).numpy()


def _chi_squared(plan: EpochPlan) -> float:
    places = (2 * CROP_PADDING + 1) * plan.top + plan.left
    counts = np.bincount(places, minlength=_PLACES)
    expected = _DRAWS / _PLACES
    return float((np.square(counts - expected) / expected).sum())
