"""The protocol of the talk on ResNet-152, as far as it says; the rest is what is usual."""

from dataclasses import dataclass
from typing import Any, ClassVar

from experiments.harness.catalogue import ORIGINS
from experiments.harness.settings import Protocol, Settings
from jaxresnet.data.sources import ImageOptions
from jaxresnet.models.resnet import ModelOptions
from jaxresnet.optim import OptimizerOptions
from jaxresnet.train.recipe import TrainingOptions

PROTOCOL = Protocol("imagenet", ("sgd",), ORIGINS["talk"].publisher)
PROTOCOL_NOTE = (
    "The talk gives the network (its convolutions have biases), batches of 128, 2 workers, the "
    "transforms and ImageNet, but not how it optimised. SGD with momentum 0.9, weight decay 1e-4 "
    "and a rate of 0.1 that is divided by ten are He et al.'s (2015); 90 epochs, with the "
    "divisions after 30, 60 and 80, are Goyal et al.'s (2017)."
)


@dataclass(frozen=True)
class TalkSettings(Settings):
    images: ImageOptions = ImageOptions(data="imagenet")
    model: ModelOptions = ModelOptions(model="resnet152", stem="imagenet", conv_bias=True)
    optimizer: OptimizerOptions = OptimizerOptions(schedule="step", weight_decay=1e-4)
    training: TrainingOptions = TrainingOptions(epochs=90, augment="resized-crop")
    QUICK: ClassVar[dict[str, Any]] = {
        "data": "synthetic", "image_size": 64, "model": "resnet50", "width": 8, "epochs": 3,
        "batch_size": 32, "train_images": 640, "eval_images": 160,
    }  # fmt: skip
    protocol: ClassVar[Protocol] = PROTOCOL
