"""Training in PyTorch: optimizers, schedules, transforms and the loop of the published runs."""

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import nn, optim
from torch.optim import lr_scheduler

from jaxresnet.data.augment import CROP_PADDING
from jaxresnet.data.dataset import Source, Split
from jaxresnet.optim import OptimizerOptions

# By the names of jaxresnet.optim.OPTIMIZERS.
TORCH_OPTIMIZERS: dict[str, Callable[..., optim.Optimizer]] = {
    "sgd": optim.SGD,
    "nesterov": partial(optim.SGD, nesterov=True),
    "adagrad": optim.Adagrad,
    "adadelta": optim.Adadelta,
    "adam": optim.Adam,
}
# By the names of jaxresnet.optim.SCHEDULES, of the same lengths, stepped after each batch.
TORCH_SCHEDULES: dict[str, Callable[[optim.Optimizer, int, int], lr_scheduler.LRScheduler]] = {
    "constant": lambda optimizer, steps, warmup: lr_scheduler.ConstantLR(optimizer, factor=1),
    "step": lambda optimizer, steps, warmup: lr_scheduler.MultiStepLR(
        optimizer, [-(-steps * ninths // 9) - warmup for ninths in (3, 6, 8)], gamma=0.1
    ),
    "cosine": lambda optimizer, steps, warmup: lr_scheduler.CosineAnnealingLR(
        optimizer, T_max=steps - warmup
    ),
}


def create_torch_optimizer(
    params: Iterable[torch.Tensor], options: OptimizerOptions
) -> optim.Optimizer:
    """One of TORCH_OPTIMIZERS; what the options do not say is at torch.optim's default."""
    more = {"momentum": options.momentum} if options.entry.uses_momentum else {}
    decayed, others = split_decayed(params, options)
    groups = [{"params": decayed}, {"params": others, "weight_decay": 0.0}]
    create = TORCH_OPTIMIZERS[options.optimizer]
    return create(groups, lr=options.rate, weight_decay=options.weight_decay, **more)


def split_decayed(
    params: Iterable[torch.Tensor], options: OptimizerOptions
) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """Those that weight decay, L1 and L2 apply to, and the others, told apart as timm does."""
    params = list(params)
    if not options.no_decay_on_norm:
        return params, []
    return [p for p in params if p.ndim > 1], [p for p in params if p.ndim <= 1]


def create_torch_scheduler(
    optimizer: optim.Optimizer, options: OptimizerOptions, epochs: int, steps_per_epoch: int
) -> lr_scheduler.LRScheduler:
    """One of TORCH_SCHEDULES, after the warm-up if there is one."""
    steps, warmup = epochs * steps_per_epoch, round(options.warmup_epochs * steps_per_epoch)
    later = TORCH_SCHEDULES[options.schedule](optimizer, steps, warmup)
    if not warmup:
        return later
    rising = lr_scheduler.LinearLR(optimizer, 1 / (warmup + 1), total_iters=warmup)
    return lr_scheduler.SequentialLR(optimizer, [rising, later], [warmup])


def torch_penalty(params: Iterable[torch.Tensor], options: OptimizerOptions) -> torch.Tensor:
    """The terms that L1 and L2 add to the loss."""
    decayed, _ = split_decayed(params, options)
    absolute = torch.stack([param.abs().sum() for param in decayed]).sum()
    squares = torch.stack([param.square().sum() for param in decayed]).sum()
    return options.l1 * absolute + options.l2 / 2 * squares


def torch_normalise(images: np.ndarray, source: Source) -> torch.Tensor:
    """uint8 (batch, height, width, 3) -> float32 (batch, 3, height, width), channels last.

    torchvision's ToTensor and Normalize, operation by operation.
    """
    tensor = torch.from_numpy(np.array(images)).permute(0, 3, 1, 2).to(torch.float32).div(255)
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (source.mean, source.std))
    return tensor.sub(mean).div(std).contiguous(memory_format=torch.channels_last)


def torch_crop(image: np.ndarray, top: int, left: int, flip: int | bool) -> np.ndarray:
    """torchvision's RandomCrop(size, padding=4), then RandomHorizontalFlip, with these draws.

    image: (height, width, 3) uint8.
    """
    pixels = torch.from_numpy(image).permute(2, 0, 1)
    padded = nn.functional.pad(pixels, [CROP_PADDING] * 4)
    crop = padded[:, top : top + image.shape[0], left : left + image.shape[1]]
    return (crop.flip(-1) if flip else crop).permute(1, 2, 0).numpy()


def torch_epoch(
    split: Split, batch_size: int, generator: torch.Generator
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """One epoch's uint8 images and labels: shuffled, cropped and flipped by torch's own draws."""

    def draw_crop(image: np.ndarray) -> np.ndarray:
        top, left = torch.randint(2 * CROP_PADDING + 1, (2,), generator=generator).tolist()
        return torch_crop(image, top, left, torch.rand(1, generator=generator).item() < 0.5)

    for indices in torch.randperm(len(split), generator=generator).split(batch_size):
        images = [draw_crop(image) for image in split.pixels[indices]]
        yield np.stack(images), split.labels[indices]


def torch_train(
    model: nn.Module,
    optimizer: optim.Optimizer,
    source: Source,
    batches: Iterable[tuple[Any, Any]],
    loss: Callable[..., torch.Tensor] = nn.functional.cross_entropy,
    penalty: Callable[[], torch.Tensor | float] = lambda: 0.0,
) -> Iterator[float]:
    """Takes a step for each batch of uint8 images and labels; yields its mean loss.

    loss: (logits, labels) -> the mean loss. penalty: the further terms of what is minimised.
    """
    dtype = next(model.parameters()).dtype
    model.train()
    for images, labels in batches:
        inputs = torch_normalise(np.asarray(images), source).to(dtype)
        targets = torch.from_numpy(np.asarray(labels, np.int64))
        mean_loss = loss(model(inputs), targets)
        optimizer.zero_grad()
        (mean_loss + penalty()).backward()
        optimizer.step()
        yield mean_loss.item()
