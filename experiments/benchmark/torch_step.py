"""PyTorch's training step as a contestant, eager or by torch.compile. Imports no JAX."""

import time
from typing import Any

import torch
from torch import nn

from experiments.benchmark.worker import (
    Answer,
    Repeat,
    matrix_product_gflops,
    random_batch,
    random_matrix,
    repeat_steps,
)
from experiments.pytorch.resnet import TorchResNet


def set_up(settings: dict[str, Any]) -> tuple[Answer, Repeat]:
    """Makes the step of bench_step's settings; "compile": by torch.compile or not."""
    started = time.perf_counter()
    batch_size = settings["batch_size"]
    batch = random_batch(batch_size, settings["image_size"], settings["classes"])
    images, labels = torch.from_numpy(batch[0]), torch.from_numpy(batch[1]).to(torch.int64)
    model = TorchResNet(
        settings["model"],
        num_classes=settings["classes"],
        stem=settings["stem"],
        width=settings["width"],
    ).train()
    optimizer = torch.optim.SGD(
        model.parameters(),
        lr=settings["learning_rate"],
        momentum=settings["momentum"],
        weight_decay=settings["weight_decay"],
    )
    mean, std = (torch.tensor(settings[name]).view(1, 3, 1, 1) for name in ("mean", "std"))
    is_bfloat16 = settings["dtype"] == "bfloat16"

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

    step()
    first_step_seconds = time.perf_counter() - started
    for _ in range(settings["warmup"] - 1):
        step()
    return _describe(first_step_seconds, settings["dtype"]), repeat_steps(step, batch_size)


def _describe(first_step_seconds: float, dtype: str) -> Answer:
    matrix = torch.from_numpy(random_matrix()).to(getattr(torch, dtype))
    return {
        "framework": f"PyTorch {torch.__version__}",
        "threads": torch.get_num_threads(),
        "first_step_seconds": first_step_seconds,
        "matrix_product_gflops": matrix_product_gflops(lambda: torch.mm(matrix, matrix)),
    }
