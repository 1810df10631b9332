"""PyTorch's DataLoader as a contestant, with torchvision's transforms. Imports no JAX."""

import itertools
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps
from torch.utils.data import DataLoader, Dataset

from experiments.benchmark.worker import Answer, Repeat

Transform = Callable[[Image.Image], torch.Tensor]


def set_up(settings: dict[str, Any]) -> tuple[Answer, Repeat]:
    """Makes the loader. "images", "labels": .npy files; "workers": of the loader."""
    started = time.perf_counter()
    images, labels = np.load(settings["images"]), np.load(settings["labels"])
    words, transform = _make_transform(
        images.shape[1:3], settings["mean"], settings["std"], settings["padding"]
    )
    dataset = ImageSet(images, labels, transform)
    loader = DataLoader(
        dataset, batch_size=settings["batch_size"], shuffle=True, num_workers=settings["workers"]
    )

    def repeat(count: int) -> Answer:
        started, images = time.perf_counter(), 0
        batches = iter(loader)
        for _, labels in itertools.islice(batches, count):
            images += len(labels)
        del batches
        return {"seconds": [time.perf_counter() - started], "images": images}

    repeat(settings["warmup"])
    ready = {
        "framework": f"PyTorch {torch.__version__}",
        "transforms": words,
        "set_up_seconds": time.perf_counter() - started,
    }
    return ready, repeat


class ImageSet(Dataset[tuple[torch.Tensor, int]]):
    """Images (n, height, width, 3) uint8 and labels (n,), as torchvision.datasets.CIFAR10."""

    def __init__(self, images: np.ndarray, labels: np.ndarray, transform: Transform):
        self._images, self._labels, self._transform = images, labels.tolist(), transform

    def __len__(self) -> int:
        return len(self._labels)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return self._transform(Image.fromarray(self._images[index])), self._labels[index]


class PlainTransform:
    """What torchvision's four transforms do to a PIL image, call by call."""

    def __init__(self, mean: Sequence[float], std: Sequence[float], padding: int):
        self._mean, self._std, self._padding = mean, std, padding

    def __call__(self, image: Image.Image) -> torch.Tensor:
        """An image of height x width -> (3, height, width) float32, normalised."""
        width, height = image.size
        image = ImageOps.expand(image, border=self._padding, fill=0)
        top, left = (int(torch.randint(0, 2 * self._padding + 1, (1,)).item()) for _ in range(2))
        image = image.crop((left, top, left + width, top + height))
        if torch.rand(1) < 0.5:
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        pixels = torch.from_numpy(np.array(image, np.uint8, copy=True))
        tensor = pixels.permute(2, 0, 1).contiguous().to(torch.float32).div(255)
        mean, std = (torch.as_tensor(value).view(-1, 1, 1) for value in (self._mean, self._std))
        return tensor.clone().sub_(mean).div_(std)


def _make_transform(
    size: Sequence[int], mean: Sequence[float], std: Sequence[float], padding: int
) -> tuple[str, Transform]:
    """How the transforms are called, and the transforms: torchvision's where it is installed."""
    try:
        import torchvision  # pyright: ignore[reportMissingImports]
        from torchvision import transforms  # pyright: ignore[reportMissingImports]
    except ImportError:
        plain = PlainTransform(mean, std, padding)
        return "torchvision's operations written with PIL and torch", plain
    composed = transforms.Compose(
        [
            transforms.RandomCrop(size, padding=padding),
            transforms.RandomHorizontalFlip(),
            transforms.ToTensor(),
            transforms.Normalize(mean, std),
        ]
    )
    return f"torchvision {torchvision.__version__}", composed
