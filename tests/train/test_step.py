"""The steps: what is counted, and what padding does."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxresnet.data.cifar import CIFAR10
from jaxresnet.data.dataset import normalise as normalise_by
from jaxresnet.models.resnet import MODELS, STEMS, BasicBlock, ResNet
from jaxresnet.models.torch_names import Weights, to_torch, weights_of
from jaxresnet.optim import OptimizerOptions
from jaxresnet.train.accumulation import make_step, step_buffers
from jaxresnet.train.figures import is_in_top5
from jaxresnet.train.recipe import TrainingOptions
from jaxresnet.train.state import create_state, split_model
from jaxresnet.train.step import StepFunctions, make_eval_step

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
    state, metrics = StepFunctions(network, optimizer, normalise).jit()(state, IMAGES, LABELS)
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
    network, params, batch_stats = split_model(tiny(dropout=0.5))
    optimizer = OptimizerOptions(learning_rate=1e-9, momentum=0.0, weight_decay=0.0).create(1, 1)
    step = StepFunctions(network, optimizer, normalise).jit()

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
        _, metrics = StepFunctions(network, optimizer, normalise).jit()(state, IMAGES, LABELS)
        assert np.isfinite(metrics["loss"])
        assert bool(metrics["finite"]) == finite


def step_once(options: OptimizerOptions, **parts):
    """A training step of the tiny network: (its state, its metrics)."""
    network, params, batch_stats = split_model(tiny())
    optimizer = options.create(1, 1)
    state = create_state(params, batch_stats, optimizer)
    step = StepFunctions(network, optimizer, normalise, penalty=options.penalty, **parts).jit()
    return step(state, IMAGES, LABELS)


@pytest.mark.parametrize("no_decay_on_norm", [False, True])
def test_l2_in_the_loss_is_the_same_as_weight_decay(no_decay_on_norm):
    decays = [
        {"weight_decay": 0.0},
        {"weight_decay": 0.4},
        {"weight_decay": 0.0, "l2": 0.4},
    ]
    none, decayed, penalised = (
        step_once(replace(OptimizerOptions(no_decay_on_norm=no_decay_on_norm), **decay))
        for decay in decays
    )
    jax.tree.map(
        lambda one, other: np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6),
        decayed[0].params,
        penalised[0].params,
    )
    scales = [state.params["stem"]["norm"]["scale"] for state, _ in (none, decayed)]
    assert np.array_equal(*scales) == no_decay_on_norm
    # The figure is the images' loss, without the penalty.
    assert float(none[1]["loss"]) == float(decayed[1]["loss"])
    np.testing.assert_allclose(penalised[1]["loss"], none[1]["loss"], rtol=1e-6)


def test_a_penalty_that_is_not_finite_is_noticed_though_the_loss_is():
    for l2, finite in ((1.0, True), (3e38, False)):
        options = OptimizerOptions(learning_rate=1e-38, weight_decay=0.0, l2=l2)
        _, metrics = step_once(options)
        assert np.isfinite(metrics["loss"])
        assert bool(metrics["finite"]) == finite


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_label_smoothing_is_pytorchs(smoothing, dtype):
    torch = pytest.importorskip("torch", reason="compares with PyTorch")
    logits = jnp.asarray(GENERATOR.normal(size=(6, 10)), dtype)
    found = TrainingOptions(label_smoothing=smoothing).loss(logits, LABELS)
    reference = torch.nn.CrossEntropyLoss(label_smoothing=smoothing, reduction="none")
    wide = torch.tensor(np.asarray(logits, np.float64))
    expected = reference(wide, torch.tensor(LABELS, dtype=torch.int64))
    assert (found.shape, found.dtype) == ((6,), jnp.float32)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_averaged_weights_are_pytorchs(monkeypatch):
    pytest.importorskip("torch", reason="compares with PyTorch")
    import torch
    from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

    from experiments.pytorch.resnet import create_torch_model, numpy_tensors

    monkeypatch.setitem(MODELS, "tiny", (BasicBlock, (1, 1)))
    network, params, batch_stats = split_model(tiny())
    optimizer = OptimizerOptions(learning_rate=0.5).create(1, 3)
    step = StepFunctions(network, optimizer, normalise, ema=0.7).jit()
    state = create_state(params, batch_stats, optimizer, averaged=True)
    module = create_torch_model("tiny", width=4)
    average = AveragedModel(module, multi_avg_fn=get_ema_multi_avg_fn(0.7), use_buffers=True)
    for _ in range(4):
        tensors = to_torch(Weights(state.params, state.batch_stats))
        module.load_state_dict({name: torch.from_numpy(t) for name, t in tensors.items()})
        average.update_parameters(module)  # the first of them copies
        evaluated = to_torch(Weights(*state.evaluated))
        for name, expected in numpy_tensors(average.module).items():
            np.testing.assert_allclose(evaluated[name], expected, rtol=1e-5, atol=1e-6)
        state, metrics = step(state, IMAGES, LABELS)
        assert metrics["finite"]


def test_top5_is_pytorchs_and_there_from_100_classes_on():
    torch = pytest.importorskip("torch", reason="compares with PyTorch")
    logits = GENERATOR.normal(size=(64, 100)).astype(np.float32)
    labels = GENERATOR.integers(0, 20, 64).astype(np.int32)
    logits[:, :20] += 1.5  # so that some are right
    _, best = torch.tensor(logits).topk(5)
    expected = (best == torch.tensor(labels)[:, None]).any(1)
    assert 5 < expected.sum() < 60
    np.testing.assert_array_equal(is_in_top5(jnp.asarray(logits), jnp.asarray(labels)), expected)

    for classes, there in ((99, False), (100, True)):
        network, params, batch_stats = split_model(tiny(num_classes=classes))
        mask = np.ones(6, bool)
        tested = make_eval_step(network, normalise)(params, batch_stats, IMAGES, LABELS, mask)
        assert ("test_top5" in tested) == there
        optimizer = OptimizerOptions().create(1, 1)
        state = create_state(params, batch_stats, optimizer)
        _, metrics = StepFunctions(network, optimizer, normalise).jit()(state, IMAGES, LABELS)
        assert ("correct_top5" in metrics) == there


def parts_and_whole(parts: int, **options):
    """A step taken in parts and one that is not: their states and metrics."""
    network, params, batch_stats = split_model(tiny(**options))
    optimizer = OptimizerOptions(learning_rate=0.5).create(1, 1)
    functions = StepFunctions(network, optimizer, normalise)
    for count in (parts, 1):
        state = create_state(params, batch_stats, optimizer)
        batch = jax.device_put((IMAGES, LABELS))
        yield make_step(functions, count).lower(state, *batch).compile()(state, *batch)


@pytest.mark.parametrize("parts", [2, 4, 6, 9])
def test_without_batch_norm_parts_make_the_step_of_the_whole_batch(parts):
    (taken, figures), (whole, expected) = parts_and_whole(parts, norm="none", conv_bias=True)
    assert int(taken.step) == 1
    assert figures["correct"] == expected["correct"]
    np.testing.assert_allclose(figures["loss"], expected["loss"], rtol=1e-6)
    jax.tree.map(
        lambda new, old: np.testing.assert_allclose(new, old, rtol=1e-4, atol=1e-6),
        (taken.params, taken.opt_state),
        (whole.params, whole.opt_state),
    )


def test_with_batch_norm_parts_are_backward_passes_of_pytorch_before_its_step():
    torch = pytest.importorskip("torch")
    from experiments.pytorch.resnet import TorchResNet, numpy_tensors
    from experiments.pytorch.training import torch_normalise

    model = tiny()
    network, params, batch_stats = split_model(model)
    twin = TorchResNet(False, (1, 1), STEMS["cifar"], width=4)
    tensors = to_torch(weights_of(model))
    twin.load_state_dict({name: torch.from_numpy(value.copy()) for name, value in tensors.items()})
    sgd = torch.optim.SGD(twin.parameters(), lr=0.5)
    for part in np.array_split(np.arange(6), 4):  # of 2, 2, 1 and 1 images
        outputs = twin(torch_normalise(IMAGES[part], CIFAR10))
        labels = torch.from_numpy(LABELS[part].astype(np.int64))
        (torch.nn.functional.cross_entropy(outputs, labels) * len(part) / 6).backward()
    sgd.step()

    optimizer = OptimizerOptions(learning_rate=0.5, momentum=0.0, weight_decay=0.0).create(1, 1)
    step = make_step(StepFunctions(network, optimizer, normalise), 4)
    state = create_state(params, batch_stats, optimizer)
    batch = jax.device_put((IMAGES, LABELS))
    state, _ = step.lower(state, *batch).compile()(state, *batch)
    found = to_torch(Weights(state.params, state.batch_stats, batches=4))
    for name, expected in numpy_tensors(twin).items():
        np.testing.assert_allclose(found[name], expected, rtol=1e-3, atol=1e-5, err_msg=name)


def test_dropout_differs_from_part_to_part():
    network, params, batch_stats = split_model(tiny(norm="none", dropout=0.5))
    optimizer = OptimizerOptions().create(1, 1)
    state = create_state(params, batch_stats, optimizer)
    batch = jax.device_put((IMAGES[:2], LABELS[:2]))
    step = make_step(StepFunctions(network, optimizer, normalise), 2)
    programs = step.lower(state, *batch).compile()

    def logits_of(number: int) -> np.ndarray:
        place = jax.device_put((state.step, np.int32(number), np.int32(0)))
        sums = programs.zeros(state.params)
        _, _, part = programs.take[1](state.params, batch_stats, sums, *place, *batch)
        return np.asarray(part.logits)

    np.testing.assert_array_equal(logits_of(0), logits_of(0))
    assert not np.array_equal(logits_of(0), logits_of(1))


def test_parts_need_less_memory_than_the_whole_batch():
    model = ResNet(BasicBlock, (1, 1), width=16, rngs=nnx.Rngs(0))
    network, params, batch_stats = split_model(model)
    optimizer = OptimizerOptions().create(1, 1)
    state = create_state(params, batch_stats, optimizer)
    batch = jax.ShapeDtypeStruct((32, 32, 32, 3), np.uint8), jax.ShapeDtypeStruct((32,), np.int32)
    functions = StepFunctions(network, optimizer, normalise)
    whole, parts = (
        step_buffers(make_step(functions, count).lower(state, *batch).compile()) for count in (1, 4)
    )
    assert whole is not None
    assert parts is not None
    assert parts.total < 0.4 * whole.total
