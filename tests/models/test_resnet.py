"""The networks: parameter counts that others publish, shapes, options."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from jaxresnet import platform
from jaxresnet.errors import UserError
from jaxresnet.models.resnet import (
    MODELS,
    STEMS,
    BasicBlock,
    Bottleneck,
    ModelOptions,
    ResNet,
    Stem,
    create_model,
)
from jaxresnet.models.summary import count_parameters
from jaxresnet.models.torch_names import from_torch, to_torch, weights_of
from jaxresnet.train.state import split_model

IMAGENET = {"num_classes": 1000, "stem": "imagenet"}


@pytest.mark.parametrize(
    ("name", "options", "expected"),
    [
        # torchvision's counts at 1,000 classes.
        ("resnet18", IMAGENET, 11_689_512),
        ("resnet34", IMAGENET, 21_797_672),
        ("resnet50", IMAGENET, 25_557_032),
        ("resnet101", IMAGENET, 44_549_160),
        ("resnet152", IMAGENET, 60_192_808),
        ("resnet152", {**IMAGENET, "conv_bias": True}, 60_268_520),
        # The labs' counts for CIFAR-10.
        ("resnet18", {}, 11_173_962),
        ("resnet18", {"norm": "none"}, 11_164_362),
    ],
)
def test_parameter_counts(name, options, expected):
    assert count_parameters(create_model(name, rngs=nnx.Rngs(0), **options)) == expected


def logits_of(model: ResNet, size: int) -> jax.ShapeDtypeStruct:
    images = jax.ShapeDtypeStruct((2, size, size, 3), jnp.float32)
    return jax.eval_shape(lambda x: model(x, train=False), images)


@pytest.mark.parametrize("stem", STEMS)
@pytest.mark.parametrize("name", MODELS)
def test_logits_have_one_value_per_class(name, stem):
    model = ModelOptions(name, stem, width=4).create(7, seed=0)
    for size in (32, 75):
        logits = logits_of(model, size)
        assert (logits.shape, logits.dtype) == ((2, 7), jnp.float32)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_stem_needs_only_its_entry(dtype, monkeypatch):
    """Vision transformers' patches: what the kernel covers is all that an output depends on."""
    monkeypatch.setitem(STEMS, "invented", Stem(4, 4, 0, pool=False))
    model = ModelOptions("resnet18", "invented", width=4, dtype=dtype).create(10, seed=0)
    assert logits_of(model, 32).dtype == jnp.dtype(dtype)
    images = np.zeros((1, 8, 8, 3), np.float32)
    images[0, :4, 4:] = 1
    outputs = model.stem(jnp.asarray(images), train=False)
    assert outputs.shape == (1, 2, 2, 4)
    np.testing.assert_array_equal((outputs != 0).any(-1), [[[False, True], [False, False]]])


@pytest.mark.parametrize("stem", STEMS)
@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_gradients_have_the_parameters_shapes_and_dtypes(name, stem, dtype):
    model = create_model(name, stem=stem, width=4, dtype=dtype, rngs=nnx.Rngs(0))
    network, params, batch_stats = split_model(model)

    def loss(params, images):
        logits, _ = network.apply(params, batch_stats, images, train=True)
        return logits.astype(jnp.float32).sum()

    images = jax.ShapeDtypeStruct((2, 64, 64, 3), jnp.float32)
    gradients = jax.eval_shape(jax.jit(jax.grad(loss)), params, images)
    assert jax.tree.map(lambda g: (g.shape, g.dtype), gradients) == jax.tree.map(
        lambda p: (p.shape, p.dtype), params
    )


def tiny(**options) -> ResNet:
    return ResNet(BasicBlock, (1, 1), width=4, rngs=nnx.Rngs(0), **options)


def test_bfloat16_computes_in_bfloat16_and_keeps_float32_parameters():
    model = tiny(dtype=jnp.bfloat16)
    assert model(jnp.ones((2, 8, 8, 3)), train=False).dtype == jnp.bfloat16
    assert {leaf.dtype for leaf in jax.tree.leaves(nnx.state(model))} == {jnp.dtype("float32")}


def test_apply_returns_new_statistics_and_changes_nothing():
    network, params, batch_stats = split_model(tiny())
    before = jax.tree.map(np.array, batch_stats)
    images = jnp.asarray(np.random.default_rng(0).normal(size=(4, 8, 8, 3)), jnp.float32)
    _, after = network.apply(params, batch_stats, images, train=True)
    jax.tree.map(np.testing.assert_array_equal, before, batch_stats)
    mean = after["stem"]["norm"]["mean"]
    assert not np.array_equal(mean, before["stem"]["norm"]["mean"])
    _, kept = network.apply(params, batch_stats, images, train=False)
    jax.tree.map(np.testing.assert_array_equal, kept, batch_stats)


def test_a_network_without_norm_has_no_statistics():
    _, _, batch_stats = split_model(tiny(norm="none"))
    assert jax.tree.leaves(batch_stats) == []


def test_dropout_acts_in_training_alone():
    model, images = tiny(dropout=0.5), jnp.ones((2, 8, 8, 3))
    first = model(images, train=True, dropout_key=jax.random.key(0))
    second = model(images, train=True, dropout_key=jax.random.key(1))
    assert not np.array_equal(first, second)
    with pytest.raises(ValueError, match="dropout_key"):
        model(images, train=True)
    np.testing.assert_array_equal(model(images, train=False), model(images, train=False))


@pytest.mark.parametrize("rate", [0.2, 0.5])
def test_dropout_is_pytorchs(rate, monkeypatch):
    """With the identity for a classifier, logits are the values that dropout lets through."""
    torch = pytest.importorskip("torch", reason="compares with PyTorch")
    from experiments.pytorch.resnet import create_torch_model, numpy_tensors

    monkeypatch.setitem(MODELS, "tiny", (BasicBlock, (1, 1)))
    options = {"norm": "none", "width": 4, "num_classes": 8, "dropout": rate}
    torch.manual_seed(0)
    module = create_torch_model("tiny", **options)
    classifier = module.get_submodule("fc")
    torch.nn.init.eye_(classifier.weight)
    torch.nn.init.zeros_(classifier.bias)
    model = create_model("tiny", **options, rngs=nnx.Rngs(0))
    network, _, _ = split_model(model)
    weights = from_torch(numpy_tensors(module), weights_of(model))
    images = np.random.default_rng(0).normal(size=(1, 8, 8, 3)).astype(np.float32)

    def apply(images, *, train):
        arrays = weights.params, weights.batch_stats, jnp.asarray(images)
        return network.apply(*arrays, train=train, dropout_key=jax.random.key(0))[0]

    here = np.asarray(apply(np.repeat(images, 2_000, 0), train=True))
    inputs = torch.from_numpy(np.repeat(images, 2_000, 0).transpose(0, 3, 1, 2))
    pytorch = module.train()(inputs).detach().numpy()
    whole = module.eval()(inputs[:1]).detach().numpy()
    for found in (here, pytorch):
        dropped = found == 0
        np.testing.assert_allclose(
            found, np.where(dropped, 0, whole / (1 - rate)), rtol=1e-4, atol=1e-6
        )
        # Of 16,000 draws; the bound is five standard deviations at least.
        assert dropped[:, whole[0] > 1e-3].mean() == pytest.approx(rate, abs=0.02)
    np.testing.assert_allclose(apply(images, train=False), whole, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_zero_init_residual_zeroes_what_pytorch_zeroes(name):
    pytest.importorskip("torch", reason="compares with PyTorch")
    from experiments.pytorch.resnet import create_torch_model, numpy_tensors

    options = {"width": 4, "zero_init_residual": True}
    here = to_torch(weights_of(create_model(name, **options, rngs=nnx.Rngs(0))))
    pytorch = numpy_tensors(create_torch_model(name, **options))
    zeros = {n for n, t in pytorch.items() if n.endswith("weight") and not t.any()}
    assert len(zeros) == sum(MODELS[name][1])
    assert {n for n, t in here.items() if n.endswith("weight") and not t.any()} == zeros
    usual = to_torch(weights_of(create_model(name, width=4, rngs=nnx.Rngs(0))))
    for tensor in usual.keys() - zeros:
        np.testing.assert_array_equal(here[tensor], usual[tensor])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "resnet20"}, r"model 'resnet20'.*resnet18.*resnet152"),
        ({"name": "resnet18", "stem": "mnist"}, r"stem 'mnist'.*cifar, imagenet"),
        ({"name": "resnet18", "norm": "layer"}, r"norm 'layer'.*batch, none"),
    ],
)
def test_an_unknown_name_is_refused_with_the_known_ones(options, message):
    with pytest.raises(UserError, match=message):
        create_model(**options, rngs=nnx.Rngs(0))


def test_gradients_in_bfloat16_point_where_those_in_float32_do():
    """Compiled as a training step is: what rounding does is up to the whole program."""
    generator = np.random.default_rng(0)
    images = jnp.asarray(generator.normal(size=(16, 16, 16, 3)), jnp.float32)
    labels = jnp.asarray(generator.integers(0, 10, 16), jnp.int32)

    def gradient(dtype):
        model = ResNet(BasicBlock, (2, 2), width=8, dtype=dtype, rngs=nnx.Rngs(0))
        network, params, batch_stats = split_model(model)

        def loss(params):
            logits, _ = network.apply(params, batch_stats, images, train=True)
            losses = optax.softmax_cross_entropy_with_integer_labels(
                logits.astype(jnp.float32), labels
            )
            return losses.mean()

        run = jax.jit(jax.grad(loss), compiler_options=platform.compiler_options())
        return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(run(params))])

    wide, narrow = gradient(jnp.float32), gradient(jnp.bfloat16)
    # Measured: 0.990 and 0.994, by compiler; 0.81 where half of the dead rectifiers let gradients
    # through.
    assert wide @ narrow > 0.97 * np.linalg.norm(wide) * np.linalg.norm(narrow)


@pytest.mark.parametrize("block", [BasicBlock, Bottleneck])
@pytest.mark.parametrize("norm", ["batch", "none"])
def test_remat_changes_memory_and_nothing_but_rounding(block, norm):
    images = jax.random.normal(jax.random.key(0), (16, 32, 32, 3))

    def measure(remat: bool):
        """Gradients, statistics, and the bytes of temporaries of the gradient's program."""
        model = ResNet(block, (3, 2), width=8, norm=norm, remat=remat, rngs=nnx.Rngs(0))
        network, params, batch_stats = split_model(model)

        def loss(params):
            logits, batch_stats_after = network.apply(params, batch_stats, images, train=True)
            return jnp.square(logits).sum(), batch_stats_after

        options = platform.compiler_options()
        program = jax.jit(jax.grad(loss, has_aux=True), compiler_options=options)
        compiled = program.lower(params).compile()
        analysis = compiled.memory_analysis()
        assert analysis is not None
        return *compiled(params), analysis.temp_size_in_bytes

    gradients, statistics, size = measure(remat=True)
    expected, expected_statistics, usual_size = measure(remat=False)
    for found, usual in ((gradients, expected), (statistics, expected_statistics)):
        jax.tree.map(
            lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-3, atol=1e-4 * abs(y).max()),
            found,
            usual,
        )
    if norm == "batch":
        assert size < 0.9 * usual_size
