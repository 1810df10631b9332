"""PyTorch's DataLoader as a contestant, with torchvision's transforms. Imports no JAX."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps
from torch.utils.data import DataLoader, Dataset

from experiments.bench.worker import Answer, Repeat, set_up_loader

try:
    import torchvision  # pyright: ignore[reportMissingImports]
    import torchvision.transforms  # pyright: ignore[reportMissingImports]
except ImportError:
    torchvision = None

_WITHOUT_TORCHVISION = "torchvision's operations written with PIL and torch"

Transform = Callable[[Image.Image], torch.Tensor]


def set_up(settings: dict[str, Any]) -> tuple[Answer, Repeat]:
    """Makes the loader; see input.py for the settings."""

    def make_epochs() -> Callable[[], Iterator[int]]:
        images, labels = np.load(settings["images"]), np.load(settings["labels"])
        transform = _make_transform(images.shape[1:3], settings)
        dataset = ImageSet(images, labels.tolist(), transform)
        loader = DataLoader(dataset, settings["batch_size"], True, num_workers=settings["workers"])
        return lambda: (len(labels) for _, labels in loader)

    timed, repeat = set_up_loader(make_epochs, settings)
    library = f"torchvision {torchvision.__version__}" if torchvision else _WITHOUT_TORCHVISION
    return {"framework": f"PyTorch {torch.__version__}", "transforms": library, **timed}, repeat


@dataclass
class ImageSet(Dataset[tuple[torch.Tensor, int]]):
    """Images (n, height, width, 3) uint8 and labels (n,), as torchvision.datasets.CIFAR10."""

    images: np.ndarray
    labels: Sequence[int]
    transform: Transform

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return self.transform(Image.fromarray(self.images[index])), self.labels[index]


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


def _make_transform(size: Sequence[int], settings: dict[str, Any]) -> Transform:
    mean, std, padding = (settings[name] for name in ("mean", "std", "padding"))
    if torchvision is None:
        return partial(transform_image, mean=mean, std=std, padding=padding)
    t = torchvision.transforms
    steps = [t.RandomCrop(size, padding), t.RandomHorizontalFlip(), t.ToTensor()]
    return t.Compose([*steps, t.Normalize(mean, std)])
