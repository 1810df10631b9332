"""PyTorch's training step as a contestant, eager or by torch.compile. Imports no JAX."""

from collections.abc import Callable

import numpy as np
import torch
from torch import nn

from experiments.bench.worker import Answer, Settings, Work, set_up_steps
from experiments.pytorch.resnet import TorchResNet


def set_up(settings: Settings) -> tuple[Answer, Work]:
    """Makes the step; see step.py for the settings."""
    ready, step = set_up_steps(settings, _make_step, _make_product)
    framework = f"PyTorch {torch.__version__}"
    return {"framework": framework, "threads": torch.get_num_threads(), **ready}, step


def _make_step(settings: Settings, pixels: np.ndarray, targets: np.ndarray) -> Work:
    images, labels = torch.from_numpy(pixels), torch.from_numpy(targets).to(torch.int64)
    structure = [settings[name] for name in ("bottleneck", "blocks", "stem")]
    options = {"num_classes": settings["classes"], "width": settings["width"]}
    model = TorchResNet(*structure, **options).train()
    sgd = {name: settings["optimizer"][name] for name in ("momentum", "weight_decay")}
    rate = settings["optimizer"]["learning_rate"]
    optimizer = torch.optim.SGD(model.parameters(), rate, **sgd)
    mean, std = (torch.tensor(settings[name]).view(1, 3, 1, 1) for name in ("mean", "std"))
    is_bfloat16 = settings["dtype"] == "bfloat16"

    def compute_loss(images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        # Images (batch, height, width, 3) turned this way are in the channels-last layout.
        inputs = images.permute(0, 3, 1, 2).to(torch.float32).div(255).sub(mean).div(std)
        with torch.autocast("cpu", torch.bfloat16, enabled=is_bfloat16):
            return nn.functional.cross_entropy(model(inputs), labels)

    forward = torch.compile(compute_loss) if settings["compile"] else compute_loss

    def step() -> int:
        loss = forward(images, labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        loss.item()
        return len(images)

    return step


def _make_product(settings: Settings, values: np.ndarray) -> Callable[[], object]:
    matrix = torch.from_numpy(values).to(getattr(torch, settings["dtype"]))
    return lambda: torch.mm(matrix, matrix)
