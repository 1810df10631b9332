"""The steps: what is counted, and what padding does."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxresnet.data.cifar import CIFAR10
from jaxresnet.data.dataset import normalise as normalise_by
from jaxresnet.models.resnet import BasicBlock, ResNet
from jaxresnet.optim import OptimizerOptions
from jaxresnet.train.state import create_state, split_model
from jaxresnet.train.step import make_eval_step, make_train_step

GENERATOR = np.random.default_rng(0)
IMAGES = GENERATOR.integers(0, 256, (6, 8, 8, 3), np.uint8)
LABELS = GENERATOR.integers(0, 10, 6).astype(np.int32)


def normalise(images):
    return normalise_by(images, CIFAR10.mean, CIFAR10.std)


def tiny(**options) -> ResNet:
    return ResNet(BasicBlock, (1, 1), width=4, rngs=nnx.Rngs(0), **options)


def cross_entropies(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    logits = logits.astype(np.float64)
    shifted = logits - logits.max(-1, keepdims=True)
    return np.log(np.exp(shifted).sum(-1)) - shifted[np.arange(len(labels)), labels]


def test_evaluation_sums_over_the_images_that_are_not_padding():
    model = tiny()
    network, params, batch_stats = split_model(model)
    mask = np.array([True, True, True, True, False, False])
    metrics = make_eval_step(network, normalise)(params, batch_stats, IMAGES, LABELS, mask)
    logits = np.asarray(model(normalise(jnp.asarray(IMAGES)), train=False))
    expected = cross_entropies(logits, LABELS)[mask].sum()
    np.testing.assert_allclose(metrics["test_loss"], expected, rtol=1e-5)
    assert int(metrics["test_top1"]) == (logits.argmax(-1) == LABELS)[mask].sum()


def test_a_training_step_follows_the_gradient_of_the_mean_loss():
    network, params, batch_stats = split_model(tiny())
    optimizer = OptimizerOptions(learning_rate=0.5, momentum=0.0, weight_decay=0.0).create(1, 1)
    before = jax.tree.map(np.asarray, params)
    state = create_state(params, batch_stats, optimizer)
    state, metrics = make_train_step(network, optimizer, normalise)(state, IMAGES, LABELS)
    assert int(state.step) == 1
    assert bool(metrics["finite"])

    def loss(params):
        logits, _ = network.apply(params, batch_stats, normalise(jnp.asarray(IMAGES)), train=True)
        return -jax.nn.log_softmax(logits)[jnp.arange(6), LABELS].mean()

    expected, gradients = jax.value_and_grad(loss)(before)
    np.testing.assert_allclose(metrics["loss"], expected, rtol=1e-5)
    jax.tree.map(
        lambda new, old, g: np.testing.assert_allclose(new, old - 0.5 * g, rtol=1e-4, atol=1e-5),
        state.params,
        before,
        gradients,
    )


def test_dropout_differs_from_step_to_step_and_repeats():
    network, params, batch_stats = split_model(tiny(dropout_rate=0.5))
    optimizer = OptimizerOptions(learning_rate=1e-9, momentum=0.0, weight_decay=0.0).create(1, 1)
    step = make_train_step(network, optimizer, normalise)

    def two_losses() -> list[float]:
        state = create_state(params, batch_stats, optimizer)
        state, first = step(state, IMAGES, LABELS)
        _, second = step(state, IMAGES, LABELS)
        return [float(first["loss"]), float(second["loss"])]

    first, second = two_losses()
    assert first != second
    assert two_losses() == [first, second]


def test_statistics_that_are_not_finite_are_noticed_though_the_loss_is_finite():
    network, params, batch_stats = split_model(tiny())
    optimizer = OptimizerOptions().create(1, 1)
    for value, finite in ((0.0, True), (np.nan, False)):
        batch_stats["stem"]["norm"]["mean"] = jnp.full(4, value)
        state = create_state(params, batch_stats, optimizer)
        _, metrics = make_train_step(network, optimizer, normalise)(state, IMAGES, LABELS)
        assert np.isfinite(metrics["loss"])
        assert bool(metrics["finite"]) == finite
