"""The fast convolution against JAX's own: outputs and both gradients, to rounding."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxresnet import platform
from jaxresnet.kernels import conv, winograd
from jaxresnet.kernels.conv import CONVOLUTIONS, fast_conv, plain_conv
from jaxresnet.models.resnet import create_model

# Largest difference over the tensor's largest magnitude. bfloat16 keeps eight bits.
BOUNDS = {"float32": 1e-5, "bfloat16": 2**-7}


def outputs_and_gradients(function, dtype, x, kernel, g, stride, padding, options):
    """Outputs and gradients for g, the gradient of the outputs; as float32 NumPy."""

    def run(x, kernel, g):
        outputs, backward = jax.vjp(lambda x, k: function(x, k, stride, padding), x, kernel)
        return outputs, *backward(g)

    arguments = (jnp.asarray(value, dtype) for value in (x, kernel, g))
    results = jax.jit(run, compiler_options=options)(*arguments)
    assert {value.dtype for value in results} == {jnp.dtype(dtype)}
    return [np.asarray(value.astype(jnp.float32)) for value in results]


def check(shape, kernel_shape, stride, padding, dtypes=("float32", "bfloat16")):
    """The fast one as training compiles it; the plain one in float32, as JAX comes.

    Both get the same numbers, those that the dtype has.
    """
    outputs = [(n + 2 * padding - kernel_shape[0]) // stride + 1 for n in shape[1:3]]
    shapes = (shape, kernel_shape, (shape[0], *outputs, kernel_shape[3]))
    generator = np.random.default_rng(0)
    for dtype in dtypes:
        x, kernel, g = (
            np.asarray(jnp.asarray(generator.normal(size=s), dtype).astype(jnp.float32))
            for s in shapes
        )
        options = platform.compiler_options()
        actual = outputs_and_gradients(fast_conv, dtype, x, kernel, g, stride, padding, options)
        expected = outputs_and_gradients(plain_conv, "float32", x, kernel, g, stride, padding, {})
        for name, fast, plain in zip(("y", "dx", "dk"), actual, expected, strict=True):
            difference = np.abs(fast - plain).max() / max(np.abs(plain).max(), 1e-30)
            assert difference <= BOUNDS[dtype], (name, dtype, shape, kernel_shape, stride)


@pytest.fixture(params=[True, False], ids=["3d", "2d"])
def _either_form(request, monkeypatch):
    """Both ways to write the kernel's gradient, in slices even for small batches."""
    monkeypatch.setattr(platform, "has_onednn", lambda dtype: request.param)
    monkeypatch.setattr(conv, "_SLICE_VALUES", 64)
    monkeypatch.setattr(conv, "_SLICE_IMAGES", 2)


@pytest.mark.usefixtures("_either_form")
@pytest.mark.parametrize("seed", range(12))
def test_any_shape_stride_and_batch(seed):
    draw = np.random.default_rng(seed)
    size, stride = int(draw.choice([1, 2, 3, 4, 5, 7])), int(draw.choice([1, 2, 3, 4]))
    padding = int(draw.integers(0, size // 2 + 1))
    least = size - 2 * padding  # at least one output
    height, width = (max(least, int(v)) for v in draw.integers(1, 12, 2))
    batch, features, outputs = (int(v) for v in draw.integers(1, 9, 3))
    check((batch, height, width, features), (size, size, features, outputs), stride, padding)


@pytest.mark.usefixtures("_either_form")
@pytest.mark.parametrize("batch", [1, 7, 8, 12])
def test_batches_that_slices_do_and_do_not_divide(batch):
    check((batch, 5, 6, 4), (3, 3, 4, 3), 2, 1)


@pytest.mark.parametrize("seed", range(6))
def test_any_shape_and_batch_by_winograd(seed, monkeypatch):
    draw = np.random.default_rng(seed)
    padding = int(draw.integers(0, 3))
    height, width = (max(3 - 2 * padding, int(v)) for v in draw.integers(1, 12, 2))
    batch, features, outputs = (int(v) for v in draw.integers(2, 10, 3))
    for name in ("_WINOGRAD_FEATURES", "_WINOGRAD_KERNEL_FEATURES"):
        monkeypatch.setattr(conv, name, {True: 1, False: 1})
    monkeypatch.setattr(conv, "_WINOGRAD_PIXELS", 1)
    # As many slices as half of the batch, or fewer where that does not divide it.
    monkeypatch.setattr(conv, "_WINOGRAD_SLICE_VALUES", 2 * height * width * features)
    shape, kernel_shape = (batch, height, width, features), (3, 3, features, outputs)
    assert winograd_parts(shape, kernel_shape, 1, padding, "float32") == {
        "convolve",
        "kernel_gradient",
    }
    check(shape, kernel_shape, 1, padding, ["float32"])


def winograd_parts(shape, kernel_shape, stride, padding, dtype):
    """Which of winograd.py's functions a convolution and its gradients call."""
    called = set()

    def noting(function):
        def note(*arguments, **options):
            called.add(function.__name__)
            return function(*arguments, **options)

        return note

    def run(x, kernel):
        outputs, backward = jax.vjp(lambda x, k: fast_conv(x, k, stride, padding), x, kernel)
        return backward(outputs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(winograd, "convolve", noting(winograd.convolve))
        patch.setattr(winograd, "kernel_gradient", noting(winograd.kernel_gradient))
        jax.eval_shape(run, *(jax.ShapeDtypeStruct(s, dtype) for s in (shape, kernel_shape)))
    return called


@pytest.mark.parametrize(
    ("onednn", "least", "least_of_kernel"), [(True, 256, 64), (False, 128, 128)]
)
def test_winograd_is_used_where_it_is_faster(onednn, least, least_of_kernel, monkeypatch):
    monkeypatch.setattr(platform, "has_onednn", lambda dtype: onednn)

    def parts(features, batch=128, size=4, kernel=3, stride=1, dtype="float32"):
        shape, kernel_shape = (batch, size, size, features), (kernel, kernel, features, features)
        with jax.enable_x64(dtype == "float64"):
            return winograd_parts(shape, kernel_shape, stride, kernel // 2, dtype)

    assert parts(least) == {"convolve", "kernel_gradient"}
    assert "convolve" not in parts(least - 1)
    assert "kernel_gradient" in parts(least_of_kernel)
    assert parts(least_of_kernel - 1) == set()
    assert parts(256, batch=127) == set()
    assert parts(256, size=8, stride=2) == set()
    assert parts(256, kernel=1) == parts(256, kernel=5) == set()
    assert parts(256, dtype="bfloat16") == parts(256, dtype="float64") == set()


def shapes_of(name: str, stem: str, size: int) -> set[tuple]:
    """(image shape, kernel shape, stride, padding) of each convolution of a network."""
    shapes = set()

    def note(x, kernel, stride, padding):
        shapes.add((x.shape, kernel.shape, stride, padding))
        return plain_conv(x, kernel, stride, padding)

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(CONVOLUTIONS, "noting", note)
        model = create_model(name, stem=stem, convolution="noting", rngs=nnx.Rngs(0))
        jax.eval_shape(lambda x: model(x, train=False), jnp.zeros((2, size, size, 3)))
    return shapes


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "stem", "size"),
    [("resnet18", "cifar", 32), ("resnet50", "cifar", 32), ("resnet152", "imagenet", 224)],
)
def test_every_shape_of_the_networks(name, stem, size, monkeypatch):
    monkeypatch.setattr(conv, "_WINOGRAD_PIXELS", 1)  # the batch is smaller than in training
    shapes = shapes_of(name, stem, size)
    assert len(shapes) >= 11
    for shape, kernel_shape, stride, padding in sorted(shapes):
        check(shape, kernel_shape, stride, padding)
