"""PyTorch's training step as a contestant, eager or by torch.compile."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import nn

from experiments.bench.worker import Answer, Repeat, set_up_steps
from experiments.pytorch.resnet import TorchResNet


def set_up(settings: dict[str, Any]) -> tuple[Answer, Repeat]:
    """Makes the step; see step.py for the settings."""

    def make_product(values: np.ndarray) -> Callable[[], object]:
        matrix = torch.from_numpy(values).to(getattr(torch, settings["network"]["dtype"]))
        return lambda: torch.mm(matrix, matrix)

    timed, repeat = set_up_steps(partial(_make_step, settings), make_product, settings)
    framework = f"PyTorch {torch.__version__}"
    return {"framework": framework, "threads": torch.get_num_threads(), **timed}, repeat


def _make_step(
    settings: dict[str, Any], pixels: np.ndarray, targets: np.ndarray
) -> Callable[[], object]:
    images, labels = torch.from_numpy(pixels), torch.from_numpy(targets).to(torch.int64)
    network, sgd = settings["network"], settings["optimizer"]
    structure = {name: network[name] for name in ("stem", "norm", "width")}
    model = TorchResNet(network["model"], num_classes=settings["classes"], **structure).train()
    rates = {"lr": sgd["learning_rate"], "momentum": sgd["momentum"]}
    optimizer = torch.optim.SGD(model.parameters(), weight_decay=sgd["weight_decay"], **rates)
    mean, std = (torch.tensor(settings[name]).view(1, 3, 1, 1) for name in ("mean", "std"))
    is_bfloat16 = network["dtype"] == "bfloat16"

    def compute_loss(images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        # Images (batch, height, width, 3) turned this way are in the channels-last layout.
        inputs = images.permute(0, 3, 1, 2).to(torch.float32).div(255).sub(mean).div(std)
        with torch.autocast("cpu", torch.bfloat16, enabled=is_bfloat16):
            return nn.functional.cross_entropy(model(inputs), labels)

    forward = torch.compile(compute_loss) if settings["compile"] else compute_loss

    def step() -> None:
        loss = forward(images, labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        loss.item()

    return step
