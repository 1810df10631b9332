"""Training in PyTorch: optimizers, transforms and the loop of the published runs."""

from collections.abc import Iterable, Iterator

import numpy as np
import torch
from torch import nn

from jaxresnet.data.augment import CIFAR10_MEAN, CIFAR10_STD, CROP_PADDING
from jaxresnet.data.dataset import Split
from jaxresnet.optim import OptimizerOptions


def create_torch_optimizer(
    name: str, parameters: Iterable[torch.Tensor], options: OptimizerOptions
) -> torch.optim.Optimizer:
    """torch.optim's optimizer of that name, all that is not in `options` at its default."""
    rate, decay = options.learning_rate, options.weight_decay
    match name:
        case "sgd" | "nesterov":
            return torch.optim.SGD(
                parameters,
                lr=rate,
                momentum=options.momentum,
                weight_decay=decay,
                nesterov=name == "nesterov",
            )
        case "adagrad":
            return torch.optim.Adagrad(parameters, lr=rate, weight_decay=decay)
        case "adadelta":
            return torch.optim.Adadelta(parameters, lr=rate, weight_decay=decay)
        case "adam":
            return torch.optim.Adam(parameters, lr=rate, weight_decay=decay)
    raise ValueError(f"PyTorch is not compared with for {name}")


def torch_normalise(images: np.ndarray) -> torch.Tensor:
    """uint8 (batch, height, width, 3) -> float32 (batch, 3, height, width), channels last.

    torchvision's ToTensor and Normalize, operation by operation.
    """
    tensor = torch.from_numpy(np.array(images)).permute(0, 3, 1, 2)
    tensor = tensor.to(torch.float32).div(255)
    mean, std = (torch.tensor(c).view(1, 3, 1, 1) for c in (CIFAR10_MEAN, CIFAR10_STD))
    return tensor.sub(mean).div(std).contiguous(memory_format=torch.channels_last)


def torch_epoch(
    split: Split, batch_size: int, generator: torch.Generator
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """One epoch's uint8 images and labels: shuffled, cropped and flipped by torch's own draws.

    As torchvision's RandomCrop(32, padding=4) and RandomHorizontalFlip do, image by image.
    """
    order = torch.randperm(len(split), generator=generator).numpy()
    height, width = split.images.shape[1:3]
    border = ((CROP_PADDING, CROP_PADDING), (CROP_PADDING, CROP_PADDING), (0, 0))
    for start in range(0, len(order), batch_size):
        indices = order[start : start + batch_size]
        images = []
        for image in split.images[indices]:
            top, left = torch.randint(2 * CROP_PADDING + 1, (2,), generator=generator).tolist()
            crop = np.pad(image, border)[top : top + height, left : left + width]
            flip = torch.rand(1, generator=generator).item() < 0.5
            images.append(crop[:, ::-1] if flip else crop)
        yield np.stack(images), split.labels[indices]


def torch_train(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    batches: Iterable[tuple[np.ndarray, np.ndarray]],
) -> Iterator[float]:
    """Takes a step for each batch of uint8 images and labels; yields its mean loss."""
    dtype = next(model.parameters()).dtype
    model.train()
    for images, labels in batches:
        inputs = torch_normalise(images).to(dtype)
        targets = torch.from_numpy(labels.astype(np.int64))
        loss = nn.functional.cross_entropy(model(inputs), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        yield loss.item()
