"""PyTorch's DataLoader as a contestant, with torchvision's transforms. Imports no JAX."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from PIL import Image, ImageOps
from torch.utils.data import DataLoader, Dataset

from experiments.bench.worker import Answer, Settings, Work, set_up_loader

try:
    import torchvision  # pyright: ignore[reportMissingImports]
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
    images, labels = np.load(settings["images"]), np.load(settings["labels"])
    mean, std, padding = (settings[name] for name in ("mean", "std", "padding"))
    transform = partial(transform_image, mean=mean, std=std, padding=padding)
    if torchvision:
        t = torchvision.transforms
        steps = [t.RandomCrop(images.shape[1:3], padding), t.RandomHorizontalFlip(), t.ToTensor()]
        transform = t.Compose([*steps, t.Normalize(mean, std)])
    dataset = _ImageSet(images, labels.tolist(), transform)
    loader = DataLoader(dataset, settings["batch_size"], True, num_workers=settings["workers"])
    return lambda: (len(labels) for _, labels in loader)


@dataclass
class _ImageSet(Dataset[tuple[torch.Tensor, int]]):
    """Images (n, height, width, 3) uint8 and labels (n,), as torchvision.datasets.CIFAR10."""

    images: np.ndarray
    labels: Sequence[int]
    transform: Callable[[Image.Image], torch.Tensor]

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
