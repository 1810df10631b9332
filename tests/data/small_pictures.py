"""Class folders of small pictures, smooth enough for JPEG to keep their pixels."""

from pathlib import Path

import numpy as np
from PIL import Image

from jaxresnet.random import generator

CLASSES = ("cat", "dog")
# Width and height of each class's training images, then of its evaluation images.
SIZES = {"train": ((90, 60), (60, 100), (40, 48)), "val": ((70, 70),)}


def write_pictures(directory: Path) -> list[Path]:
    """Returns the files, in order: train/cat/0.jpg, ..., val/dog/0.jpg."""
    files = []
    for split, sizes in SIZES.items():
        for name in CLASSES:
            folder = directory / split / name
            folder.mkdir(parents=True)
            for number, size in enumerate(sizes):
                files.append(folder / f"{number}.jpg")
                draw_picture(*size, seed=len(files)).save(files[-1], quality=95)
    return files


def draw_picture(width: int, height: int, seed: int) -> Image.Image:
    """Random colours at 4x4 points, and what lies between them."""
    colours = generator("small picture", seed).integers(256, size=(4, 4, 3), dtype=np.uint8)
    return Image.fromarray(colours).resize((width, height), Image.Resampling.BICUBIC)
