"""PyTorch's DataLoader as a contestant, with torchvision's transforms. Imports no JAX."""

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps
from torch.utils.data import DataLoader, Dataset

from experiments.bench.worker import Answer, Settings, Work, set_up_loader

try:
    import torchvision  # pyright: ignore[reportMissingImports]
    import torchvision.datasets.folder  # pyright: ignore[reportMissingImports]
    import torchvision.transforms  # pyright: ignore[reportMissingImports]
except ImportError:
    torchvision = None

_WITHOUT_TORCHVISION = "torchvision's operations written with PIL and torch"


def set_up(settings: Settings) -> tuple[Answer, Work]:
    """Makes the loader; see input.py for the settings."""
    ready, work = set_up_loader(settings, _make_epochs)
    library = f"torchvision {torchvision.__version__}" if torchvision else _WITHOUT_TORCHVISION
    return {"framework": f"PyTorch {torch.__version__}", "transforms": library, **ready}, work


def _make_epochs(settings: Settings) -> Callable[[], Iterator[int]]:
    with np.load(settings["images"]) as file:
        arrays = dict(file)
    labels = arrays.pop("labels").tolist()
    transform = _make_transform(settings)
    images, read = _find_images(settings["root"], **arrays)
    dataset = _ImageSet(images, labels, read, transform)
    loader = DataLoader(dataset, settings["batch_size"], True, num_workers=settings["workers"])
    return lambda: (len(labels) for _, labels in loader)


def _find_images(
    root: str | None, **arrays: np.ndarray
) -> tuple[Any, Callable[[Any], Image.Image]]:
    """The images, and what makes a PIL image of each."""
    if root is None or torchvision is None:
        return arrays["pixels"], Image.fromarray
    if arrays["offsets"].any():
        raise ValueError(
            "ImageFolder reads no records: --originals DIR names class folders of the same images"
        )
    paths = [str(Path(root, os.fsdecode(name))) for name in arrays["names"].tolist()]
    return paths, torchvision.datasets.folder.default_loader


def _make_transform(settings: Settings) -> Callable[[Image.Image], torch.Tensor]:
    size, mean, std, padding = (settings[n] for n in ("image_size", "mean", "std", "padding"))
    if torchvision is None:
        if settings["augment"] != "crop-flip":
            raise ModuleNotFoundError("torchvision is not installed in this interpreter")
        return partial(transform_image, mean=mean, std=std, padding=padding)
    t = torchvision.transforms
    crops = {"crop-flip": t.RandomCrop(size, padding), "resized-crop": t.RandomResizedCrop(size)}
    steps = [crops[settings["augment"]], t.RandomHorizontalFlip(), t.ToTensor()]
    return t.Compose([*steps, t.Normalize(mean, std)])


@dataclass
class _ImageSet(Dataset[tuple[torch.Tensor, int]]):
    """Images and labels (n,), as torchvision.datasets.CIFAR10 and ImageFolder.

    Attributes:
      images: (n, height, width, 3) uint8, or files' paths, whatever `read` takes.
    """

    images: Any
    labels: Sequence[int]
    read: Callable[[Any], Image.Image]
    transform: Callable[[Image.Image], torch.Tensor]

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return self.transform(self.read(self.images[index])), self.labels[index]


def transform_image(
    image: Image.Image, mean: Sequence[float], std: Sequence[float], padding: int
) -> torch.Tensor:
    """height x width -> (3, height, width) float32: torchvision's four transforms, call by call."""
    width, height = image.size
    image = ImageOps.expand(image, border=padding, fill=0)
    top, left = (int(torch.randint(0, 2 * padding + 1, (1,)).item()) for _ in range(2))
    image = image.crop((left, top, left + width, top + height))
    if torch.rand(1) < 0.5:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    pixels = torch.from_numpy(np.array(image, np.uint8, copy=True))
    tensor = pixels.permute(2, 0, 1).contiguous().to(torch.float32).div(255)
    channels = [torch.as_tensor(value).view(-1, 1, 1) for value in (mean, std)]
    return tensor.clone().sub_(channels[0]).div_(channels[1])
