"""Weights by PyTorch's names: there and back, and what does not fit."""

import hashlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxresnet.errors import UserError
from jaxresnet.models.layers import BatchNorm
from jaxresnet.models.resnet import MODELS, NORMS, STEMS, BasicBlock, Stem, create_model
from jaxresnet.models.torch_names import (
    CONVENTIONS,
    Weights,
    from_torch,
    infer_model,
    to_torch,
    weights_of,
)

# Keys and shapes of torchvision.models.resnet50 and of pytorch-cifar's ResNet18, at width 64.
TORCHVISION_RESNET50 = {
    "conv1.weight": (64, 3, 7, 7),
    "bn1.weight": (64,),
    "bn1.bias": (64,),
    "bn1.running_mean": (64,),
    "bn1.running_var": (64,),
    "bn1.num_batches_tracked": (),
    "layer1.0.conv1.weight": (64, 64, 1, 1),
    "layer1.0.conv2.weight": (64, 64, 3, 3),
    "layer1.0.conv3.weight": (256, 64, 1, 1),
    "layer1.0.bn3.running_var": (256,),
    "layer1.0.downsample.0.weight": (256, 64, 1, 1),
    "layer1.0.downsample.1.weight": (256,),
    "layer1.0.downsample.1.num_batches_tracked": (),
    "layer3.5.bn2.bias": (256,),
    "layer4.2.conv3.weight": (2048, 512, 1, 1),
    "fc.weight": (1000, 2048),
    "fc.bias": (1000,),
}
KUANGLIU_RESNET18 = {
    "conv1.weight": (64, 3, 3, 3),
    "layer1.1.conv2.weight": (64, 64, 3, 3),
    "layer2.0.shortcut.0.weight": (128, 64, 1, 1),
    "layer2.0.shortcut.1.running_mean": (128,),
    "layer4.1.bn2.weight": (512,),
    "linear.weight": (10, 512),
    "linear.bias": (10,),
}


# SHA-256, cut to 16 digits, over the lines "name shape" of the state dicts, in their order, of
# torchvision 0.29.2's networks (1,000 classes) and of pytorch-cifar's (10 classes).
IMAGENET: dict[str, Any] = {"stem": "imagenet", "num_classes": 1000}
STATE_DICTS = [
    ("torchvision", "resnet18", IMAGENET, "84fb10d9c6905a1c"),
    ("torchvision", "resnet34", IMAGENET, "28f9096d51307499"),
    ("torchvision", "resnet50", IMAGENET, "d7e4f8bb0a536344"),
    ("torchvision", "resnet101", IMAGENET, "02c0f34f4842751f"),
    ("torchvision", "resnet152", IMAGENET, "685c66205bc823aa"),
    ("kuangliu", "resnet18", {}, "60df589497195d3c"),
    ("kuangliu", "resnet50", {}, "1c92fb35fd9a17e5"),
]


def tiny(**options) -> Weights:
    """A thin ResNet-18 whose arrays all differ."""
    weights = weights_of(create_model("resnet18", width=4, rngs=nnx.Rngs(0), **options))
    generator = np.random.default_rng(0)

    def draw(array: jax.Array) -> np.ndarray:
        return generator.normal(size=array.shape).astype(np.float32)

    params, batch_stats = jax.tree.map(draw, (weights.params, weights.batch_stats))
    return Weights(params, batch_stats, 7)


def like(weights: Weights) -> Weights:
    return Weights(*jax.tree.map(np.zeros_like, (weights.params, weights.batch_stats)))


@pytest.mark.parametrize(
    ("name", "options", "names", "expected", "total"),
    [
        # torchvision's resnet50 has 53 convolutions, 53 norms of 5 tensors, and a linear layer.
        ("resnet50", {"stem": "imagenet", "num_classes": 1000}, "torchvision",
         TORCHVISION_RESNET50, 320),
        ("resnet18", {}, "kuangliu", KUANGLIU_RESNET18, 122),
    ],
)  # fmt: skip
def test_names_and_shapes_are_pytorchs(name, options, names, expected, total):
    tensors = to_torch(weights_of(create_model(name, rngs=nnx.Rngs(0), **options)), names)
    assert {key: tensors[key].shape for key in expected} == expected
    assert len(tensors) == total


@pytest.mark.parametrize(("names", "name", "options", "expected"), STATE_DICTS)
def test_state_dicts_are_those_of_the_originals(names, name, options, expected):
    tensors = to_torch(weights_of(create_model(name, rngs=nnx.Rngs(0), **options)), names)
    lines = "\n".join(f"{key} {tensor.shape}" for key, tensor in tensors.items())
    assert hashlib.sha256(lines.encode()).hexdigest()[:16] == expected


@pytest.mark.parametrize("names", CONVENTIONS)
@pytest.mark.parametrize(
    "options",
    [{}, {"norm": "none"}, {"conv_bias": True}, {"stem": "imagenet", "num_classes": 3}],
)
def test_weights_come_back_bitwise(options, names):
    weights = tiny(**options)
    tensors = to_torch(weights, names)
    assert all(tensor.flags.c_contiguous for tensor in tensors.values())
    loaded = from_torch(tensors, like(weights))
    jax.tree.map(np.testing.assert_array_equal, loaded[:2], weights[:2])
    assert loaded.batches == (0 if options.get("norm") == "none" else 7)
    again = to_torch(loaded, names)
    assert again.keys() == tensors.keys()
    for key, tensor in tensors.items():
        np.testing.assert_array_equal(again[key], tensor)
        assert again[key].dtype == tensor.dtype


def test_tensors_come_in_pytorchs_order():
    names = list(to_torch(tiny(stem="imagenet")))
    assert names[:6] == [
        "conv1.weight", "bn1.weight", "bn1.bias", "bn1.running_mean", "bn1.running_var",
        "bn1.num_batches_tracked",
    ]  # fmt: skip
    kernels = [name for name in names if name.startswith("layer2.0") and "bn" not in name]
    assert kernels[:3] == [
        "layer2.0.conv1.weight", "layer2.0.conv2.weight", "layer2.0.downsample.0.weight",
    ]  # fmt: skip
    assert names[-2:] == ["fc.weight", "fc.bias"]


def test_kernels_are_transposed():
    weights = tiny()
    kernel = weights.params["stages"][1][0]["shortcut"]["conv"]["kernel"]
    tensors = to_torch(weights)
    expected = np.moveaxis(kernel, (0, 1, 2, 3), (2, 3, 1, 0))
    np.testing.assert_array_equal(tensors["layer2.0.downsample.0.weight"], expected)
    np.testing.assert_array_equal(tensors["fc.weight"], weights.params["classifier"]["kernel"].T)


def test_what_does_not_fit_is_listed_by_kind():
    weights = tiny()
    tensors = to_torch(weights)
    del tensors["layer3.1.bn2.bias"], tensors["bn1.running_mean"]
    tensors["layer5.0.conv1.weight"] = tensors["conv1.weight"]
    tensors["fc.weight"] = np.zeros((1000, 32), np.float32)
    tensors["fc.bias"] = tensors["fc.bias"].astype(np.int64)
    with pytest.raises(UserError) as raised:
        from_torch(tensors, like(weights))
    lines = str(raised.value).splitlines()
    assert "  2 missing: bn1.running_mean, layer3.1.bn2.bias" in lines
    assert "  1 unexpected: layer5.0.conv1.weight" in lines
    assert "  1 of another shape: fc.weight (1000, 32) instead of (10, 32)" in lines
    assert any("cannot hold" in line and line.endswith(": fc.bias int64") for line in lines)


def test_of_many_tensors_that_do_not_fit_the_first_are_named():
    weights = tiny()
    tensors = {name: np.zeros((2, 2)) for name in to_torch(weights)}
    with pytest.raises(UserError) as raised:
        from_torch(tensors, like(weights))
    (line,) = (line for line in str(raised.value).splitlines() if "of another shape" in line)
    count = int(line.split()[0])
    assert 50 < count <= len(tensors)
    assert ": conv1.weight (2, 2) instead of (4, 3, 3, 3), bn1.weight (2, 2) instead" in line
    assert line.count("instead of") == 5
    assert line.endswith(f", and {count - 5} more")


def test_tensors_that_are_not_finite_are_refused():
    weights = tiny()
    tensors = to_torch(weights)
    tensors["layer2.0.bn1.running_var"][1] = np.nan
    with pytest.raises(UserError, match=r"not finite: layer2\.0\.bn1\.running_var$"):
        from_torch(tensors, like(weights))


def test_counters_of_layers_that_are_not_there_are_unexpected():
    weights = tiny()
    tensors = to_torch(weights) | {"layer9.bn1.num_batches_tracked": np.array(3)}
    with pytest.raises(UserError, match=r"unexpected: layer9\.bn1\.num_batches_tracked"):
        from_torch(tensors, like(weights))
    bare = {name: t for name, t in to_torch(weights).items() if "num_batches" not in name}
    assert from_torch(bare, like(weights)).batches == 0


@pytest.mark.parametrize("dtype", [np.float16, jnp.bfloat16])
def test_half_precision_is_widened_exactly(dtype):
    weights = tiny(norm="none")
    halves = {name: tensor.astype(dtype) for name, tensor in to_torch(weights).items()}
    widened = to_torch(from_torch(halves, like(weights)))
    for name, tensor in halves.items():
        np.testing.assert_array_equal(widened[name], tensor.astype(np.float32))
        assert widened[name].dtype == np.float32


DEFAULTS = {"num_classes": 10, "stem": "cifar", "norm": "batch", "conv_bias": False}


@pytest.mark.parametrize("names", CONVENTIONS)
@pytest.mark.parametrize("name", MODELS)
def test_the_model_is_told_from_its_tensors(name, names):
    weights = weights_of(create_model(name, width=4, rngs=nnx.Rngs(0)))
    assert infer_model(to_torch(weights, names)) == {"name": name, "width": 4, **DEFAULTS}


@pytest.mark.parametrize(
    "options",
    [{"norm": "none", "conv_bias": True}, {"num_classes": 7}, *({"stem": stem} for stem in STEMS)],
)
def test_the_options_are_told_from_the_tensors(options):
    expected = {"name": "resnet18", "width": 4, **DEFAULTS, **options}
    assert infer_model(to_torch(tiny(**options))) == expected


def test_the_stem_is_told_from_its_kernels_unless_two_have_the_same(monkeypatch):
    monkeypatch.setitem(STEMS, "invented", Stem(6, 6, 0, pool=False))
    tensors = to_torch(tiny(stem="invented"))
    assert infer_model(tensors)["stem"] == "invented"
    monkeypatch.setitem(STEMS, "overlapping", Stem(6, 3, 1, pool=False))
    with pytest.raises(UserError, match=r"size 6 are .* invented and overlapping: .* cifar 3"):
        infer_model(tensors)
    monkeypatch.delitem(STEMS, "invented")
    monkeypatch.delitem(STEMS, "overlapping")
    with pytest.raises(UserError, match=r"size 6 are those of no stem: .* cifar 3, imagenet 7"):
        infer_model(tensors)


def test_the_number_of_stages_is_told_too(monkeypatch):
    monkeypatch.setitem(MODELS, "three-stages", (BasicBlock, (3, 1, 2)))
    weights = weights_of(create_model("three-stages", width=4, rngs=nnx.Rngs(0)))
    assert infer_model(to_torch(weights))["name"] == "three-stages"


class Scale(nnx.Module):
    """Multiplies by a parameter."""

    def __init__(self, features: int, *, dtype: jnp.dtype = jnp.float32):
        self.scale = nnx.Param(jnp.ones(features, dtype))


def test_the_norm_is_told_from_its_arrays_unless_two_have_the_same(monkeypatch):
    monkeypatch.setitem(NORMS, "scale", Scale)
    tensors = to_torch(tiny(norm="scale"))
    assert infer_model(tensors)["norm"] == "scale"
    monkeypatch.setitem(NORMS, "same", BatchNorm)
    with pytest.raises(UserError, match=r"those of batch and same: .*scale \(weight\), same"):
        infer_model(to_torch(tiny()))
    monkeypatch.delitem(NORMS, "scale")
    with pytest.raises(UserError, match=r"arrays, weight, are those of no norm: .*none \(nothing"):
        infer_model(tensors)


@pytest.mark.parametrize("lost", ["conv1.weight", "fc.weight", "bn1.weight", "conv1.bias"])
def test_a_lost_tensor_is_named_though_the_model_must_be_guessed(lost):
    weights = tiny(conv_bias=True)
    tensors = to_torch(weights)
    del tensors[lost]

    def load() -> None:
        options = infer_model(tensors)
        from_torch(tensors, weights_of(create_model(**options, rngs=nnx.Rngs(0))))

    with pytest.raises(UserError, match=rf"missing: {lost}$"):
        load()


def test_tensors_of_something_else_are_refused():
    with pytest.raises(UserError, match=r"not those of a ResNet.*features\.0\.weight"):
        infer_model({"features.0.weight": np.zeros(3)})
    with pytest.raises(UserError, match="no tensors"):
        infer_model({})
