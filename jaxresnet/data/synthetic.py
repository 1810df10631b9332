"""Built-in images: ten shapes, each of its own hue, at random positions, sizes and angles.

They stand in for CIFAR-10 where there is no network, so that every experiment runs anywhere.
A network learns the hues in a few epochs and the shapes in more, so that optimizers differ. Nobody
should mistake their figures for CIFAR-10's: all output of such a run says "synthetic images".
"""

from collections.abc import Callable
from colorsys import hsv_to_rgb
from pathlib import Path

import numpy as np

from jaxresnet.data.cifar import CIFAR10
from jaxresnet.data.dataset import Dataset, OnProgress, Source, Split, Wanted
from jaxresnet.errors import UserError
from jaxresnet.random import generator

TRAIN_IMAGES, EVAL_IMAGES = 2_000, 500  # unless asked for otherwise
MAX_IMAGES = 100_000  # of a split: ten seconds of drawing, 300 MB
_SIZE = CIFAR10.image_size
_NOISE = 0.08
_HUE_DEVIATION = 0.04  # of 1; the hues of the classes are 0.1 apart

# Inside the shape? x and y run over the unit disc around the shape's centre.
SHAPES: dict[str, Callable[..., np.ndarray]] = {
    "disc": lambda x, y: np.hypot(x, y) < 0.8,
    "ring": lambda x, y: (np.hypot(x, y) < 0.9) & (np.hypot(x, y) > 0.5),
    "square": lambda x, y: np.maximum(abs(x), abs(y)) < 0.7,
    "frame": lambda x, y: abs(np.maximum(abs(x), abs(y)) - 0.6) < 0.18,
    "triangle": lambda x, y: (y > -0.5) & (abs(x) * np.sqrt(3) + y < 1),
    "star": lambda x, y: np.hypot(x, y) < 0.65 + 0.35 * np.cos(5 * np.arctan2(y, x)),
    "cross": lambda x, y: (np.minimum(abs(x), abs(y)) < 0.2) & (np.maximum(abs(x), abs(y)) < 0.9),
    "bar": lambda x, y: (abs(x) < 0.95) & (abs(y) < 0.25),
    "crescent": lambda x, y: (np.hypot(x, y) < 0.9) & (np.hypot(x - 0.4, y) > 0.7),
    "stripes": lambda x, y: (np.hypot(x, y) < 0.95) & (np.mod(2.5 * x, 1) < 0.5),
}


class _Synthetic(Source):
    def load(self, directory: Path | None, wanted: Wanted, on_progress: OnProgress) -> Dataset:
        """Draws the splits; always the same ones."""
        for flag, size in zip(("--train-images", "--eval-images"), wanted, strict=True):
            if size is not None and size > MAX_IMAGES:
                raise UserError(
                    f"{flag} is {size:,}, but at most {MAX_IMAGES:,} images can be drawn"
                )
        train = _draw_split(wanted[0] or TRAIN_IMAGES, generator("synthetic train"))
        test = _draw_split(wanted[1] or EVAL_IMAGES, generator("synthetic test"))
        return Dataset("synthetic", self, tuple(SHAPES), train, test, "built in")


# Normalised as CIFAR-10, for which they stand in.
SYNTHETIC = _Synthetic("synthetic images", CIFAR10.mean, CIFAR10.std, CIFAR10.image_size, {})


def _draw_split(size: int, rng: np.random.Generator) -> Split:
    """Each image: a shape on a shaded background."""
    labels = (np.arange(size) % len(SHAPES)).astype(np.int32)
    rng.shuffle(labels)
    images = np.empty((size, _SIZE, _SIZE, 3), np.uint8)
    y, x = np.mgrid[:_SIZE, :_SIZE] + 0.5
    for image, label in zip(images, labels, strict=True):
        scale = rng.uniform(8, 14)
        centre_x, centre_y = rng.uniform(0.9 * scale, _SIZE - 0.9 * scale, 2)
        angle = rng.uniform(0, 2 * np.pi)
        hue = (label / len(SHAPES) + rng.normal(0, _HUE_DEVIATION)) % 1
        foreground = background = np.array(hsv_to_rgb(hue, *rng.uniform(0.5, 1, 2)))
        while np.linalg.norm(foreground - background) <= 0.35:  # the shape must stay visible
            background = rng.uniform(0, 1, 3)
        slope_x, slope_y = rng.uniform(-0.3, 0.3, 2)

        dx, dy = (x - centre_x) / scale, (y - centre_y) / scale
        inside = list(SHAPES.values())[label](
            np.cos(angle) * dx + np.sin(angle) * dy, np.cos(angle) * dy - np.sin(angle) * dx
        )
        shading = slope_x * (x / _SIZE - 0.5) + slope_y * (y / _SIZE - 0.5)
        pixels = np.where(inside[..., None], foreground, background + shading[..., None])
        pixels = pixels + rng.normal(0, _NOISE, pixels.shape)
        image[:] = np.round(255 * np.clip(pixels, 0, 1))
    return Split(images, labels)
