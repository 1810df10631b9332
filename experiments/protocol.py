"""The published protocol: what each optimizer is given, and whether a run follows it."""

import dataclasses

from experiments.settings import ModelSettings, Settings, TrainingSettings
from jaxresnet.optim import OptimizerOptions, get_optimizer

# Of the published runs, for all five optimizers.
PUBLISHED_LEARNING_RATE = 0.1
CIFAR10_TRAIN_IMAGES = 50_000


def optimizer_options(settings: Settings, name: str) -> OptimizerOptions:
    """The optimizer's learning rate by the protocol, momentum and weight decay."""
    training = settings.training
    rate = training.learning_rate
    if rate is None:
        published = training.protocol == "published"
        rate = PUBLISHED_LEARNING_RATE if published else get_optimizer(name).usual_learning_rate
    return OptimizerOptions(rate, training.momentum, training.weight_decay)


def follows_published_protocol(settings: Settings, train_images: int, synthetic: bool) -> bool:
    """Whether results may be set beside the published figures without more words."""
    training, published = settings.training, TrainingSettings()
    as_published = all(
        getattr(training, name) == getattr(published, name)
        for name in ("epochs", "batch_size", "momentum", "weight_decay")
    )
    rates = {optimizer_options(settings, name).learning_rate for name in training.names}
    return (
        as_published
        and rates == {PUBLISHED_LEARNING_RATE}
        and dataclasses.replace(settings.model, convolution="fast") == ModelSettings()
        and train_images == CIFAR10_TRAIN_IMAGES
        and not synthetic
    )
