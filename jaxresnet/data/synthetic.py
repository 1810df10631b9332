"""Built-in images: ten shapes in any colour, place, size and angle, under noise.

They stand in for CIFAR-10 where there is no network, so that every experiment runs anywhere.
They are hard enough that optimizers differ, and nobody should mistake their figures for
CIFAR-10's: all output of such a run says "synthetic images".
"""

from collections.abc import Callable

import numpy as np

from jaxresnet.data.dataset import Dataset, Split

TRAIN_IMAGES, EVAL_IMAGES = 2_000, 500
_SIZE = 32
_NOISE = 0.08

Coordinates = np.ndarray
Shape = Callable[[Coordinates, Coordinates], np.ndarray]


def _radius(x: Coordinates, y: Coordinates) -> np.ndarray:
    return np.hypot(x, y)


def _triangle(x: Coordinates, y: Coordinates) -> np.ndarray:
    return (y > -0.5) & (np.abs(x) * np.sqrt(3) + y < 1)


def _star(x: Coordinates, y: Coordinates) -> np.ndarray:
    return _radius(x, y) < 0.65 + 0.35 * np.cos(5 * np.arctan2(y, x))


# Inside the shape? x and y run over the unit disc around the shape's centre.
SHAPES: dict[str, Shape] = {
    "disc": lambda x, y: _radius(x, y) < 0.8,
    "ring": lambda x, y: (_radius(x, y) < 0.9) & (_radius(x, y) > 0.5),
    "square": lambda x, y: np.maximum(np.abs(x), np.abs(y)) < 0.7,
    "frame": lambda x, y: np.abs(np.maximum(np.abs(x), np.abs(y)) - 0.6) < 0.18,
    "triangle": _triangle,
    "star": _star,
    "cross": lambda x, y: (
        (np.minimum(np.abs(x), np.abs(y)) < 0.2) & (np.maximum(np.abs(x), np.abs(y)) < 0.9)
    ),
    "bar": lambda x, y: (np.abs(x) < 0.95) & (np.abs(y) < 0.25),
    "crescent": lambda x, y: (_radius(x, y) < 0.9) & (_radius(x - 0.4, y) > 0.7),
    "stripes": lambda x, y: (_radius(x, y) < 0.95) & (np.mod(2.5 * x, 1) < 0.5),
}


def load_synthetic(train_size: int | None = None, eval_size: int | None = None) -> Dataset:
    """Draws the splits, 2,000 and 500 images unless told otherwise; always the same ones."""
    return Dataset(
        name="synthetic",
        class_names=tuple(SHAPES),
        train=_draw_split(train_size or TRAIN_IMAGES, stream=0),
        test=_draw_split(eval_size or EVAL_IMAGES, stream=1),
        location="built in",
        synthetic=True,
    )


def _draw_split(size: int, stream: int) -> Split:
    generator = np.random.Generator(np.random.Philox(key=stream))
    labels = (np.arange(size) % len(SHAPES)).astype(np.int32)
    generator.shuffle(labels)
    images = np.empty((size, _SIZE, _SIZE, 3), np.uint8)
    shapes = list(SHAPES.values())
    for index, label in enumerate(labels):
        images[index] = _draw_image(shapes[label], generator)
    return Split(images, labels)


def _draw_image(shape: Shape, generator: np.random.Generator) -> np.ndarray:
    """One image (32, 32, 3) uint8: the shape on a shaded background."""
    scale = generator.uniform(6, 13)
    centre_x, centre_y = generator.uniform(0.9 * scale, _SIZE - 0.9 * scale, 2)
    angle = generator.uniform(0, 2 * np.pi)
    foreground, background = _contrasting_colours(generator)
    slope_x, slope_y = generator.uniform(-0.3, 0.3, 2)

    y, x = (np.mgrid[:_SIZE, :_SIZE] + 0.5).astype(np.float64)
    dx, dy = (x - centre_x) / scale, (y - centre_y) / scale
    inside = shape(np.cos(angle) * dx + np.sin(angle) * dy, np.cos(angle) * dy - np.sin(angle) * dx)
    shading = slope_x * (x / _SIZE - 0.5) + slope_y * (y / _SIZE - 0.5)
    image = np.where(inside[..., None], foreground, background + shading[..., None])
    image = image + generator.normal(0, _NOISE, image.shape)
    return np.round(255 * np.clip(image, 0, 1)).astype(np.uint8)


def _contrasting_colours(generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Two colours of which the shape stays visible: at least 0.35 apart."""
    while True:
        foreground, background = generator.uniform(0, 1, (2, 3))
        if np.linalg.norm(foreground - background) > 0.35:
            return foreground, background
