"""The fast convolution against JAX's own: outputs and both gradients, to rounding."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxresnet import platform
from jaxresnet.models import conv, winograd
from jaxresnet.models.conv import Conv, fast_conv, plain_conv
from jaxresnet.models.resnet import create_model

# Largest difference over the tensor's largest magnitude. bfloat16 keeps eight bits.
BOUNDS = {"float32": 1e-5, "bfloat16": 2**-7}


def outputs_and_gradients(function, dtype, x, kernel, g, stride, padding, options):
    """Outputs and gradients for g, the gradient of the outputs; as float32 NumPy."""

    def run(x, kernel, g):
        outputs, backward = jax.vjp(lambda x, k: function(x, k, stride, padding), x, kernel)
        return outputs, *backward(g)

    arguments = (jnp.asarray(value, dtype) for value in (x, kernel, g))
    found = jax.jit(run, compiler_options=options)(*arguments)
    assert {value.dtype for value in found} == {jnp.dtype(dtype)}
    return [np.asarray(value.astype(jnp.float32)) for value in found]


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
        found = outputs_and_gradients(fast_conv, dtype, x, kernel, g, stride, padding, options)
        expected = outputs_and_gradients(plain_conv, "float32", x, kernel, g, stride, padding, {})
        for name, ours, theirs in zip(("y", "dx", "dk"), found, expected, strict=True):
            difference = np.abs(ours - theirs).max() / max(np.abs(theirs).max(), 1e-30)
            assert difference <= BOUNDS[dtype], (name, dtype, shape, kernel_shape, stride)


@pytest.fixture(params=["3d", "2d", "winograd"])
def _each_form(request, monkeypatch):
    """All ways to write the gradients, in slices even for small batches.

    Winograd's is for 3x3 kernels with stride 1 in float32; the others remain as they are.
    """
    monkeypatch.setattr(platform, "has_onednn", lambda dtype: request.param == "3d")
    monkeypatch.setattr(conv, "_SLICE_VALUES", 64)
    monkeypatch.setattr(conv, "_SLICE_IMAGES", 2)
    if request.param == "winograd":
        any_number = {True: 1, False: 1}
        monkeypatch.setattr(conv, "_WINOGRAD_FEATURES", any_number)
        monkeypatch.setattr(conv, "_WINOGRAD_KERNEL_FEATURES", any_number)
        monkeypatch.setattr(conv, "_WINOGRAD_PIXELS", 1)
        monkeypatch.setattr(conv, "_WINOGRAD_SLICE_VALUES", 64)


@pytest.mark.usefixtures("_each_form")
@pytest.mark.parametrize("seed", range(12))
def test_any_shape_stride_and_batch(seed):
    draw = np.random.default_rng(seed)
    size, stride = int(draw.choice([1, 2, 3, 4, 5, 7])), int(draw.choice([1, 2, 3]))
    padding = int(draw.integers(0, size // 2 + 1))
    least = size - 2 * padding  # at least one output
    height, width = (max(least, int(v)) for v in draw.integers(1, 12, 2))
    batch, features, outputs = (int(v) for v in draw.integers(1, 9, 3))
    check((batch, height, width, features), (size, size, features, outputs), stride, padding)


@pytest.mark.usefixtures("_each_form")
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("batch", [1, 7, 8, 12])
def test_batches_that_slices_do_and_do_not_divide(batch, stride):
    check((batch, 5, 6, 4), (3, 3, 4, 3), stride, 1)


@pytest.mark.parametrize("padding", [0, 1, 2])
@pytest.mark.parametrize(("height", "width"), [(3, 3), (4, 7), (9, 6)])
def test_winograd_is_exact_but_for_rounding(height, width, padding):
    """In float64, where the plain sum's own rounding does not hide a wrong factor."""
    generator = np.random.default_rng(0)
    x, kernel = generator.normal(size=(2, height, width, 5)), generator.normal(size=(3, 3, 5, 4))
    with jax.enable_x64(True):
        expected, backward = jax.vjp(lambda x, k: plain_conv(x, k, 1, padding), x, kernel)
        g = generator.normal(size=expected.shape)
        turned = kernel[::-1, ::-1]
        pairs = [
            (winograd.convolve(x, kernel, padding), expected),
            (winograd.convolve(g, turned, 2 - padding, transposed=True), backward(g)[0]),
            (winograd.kernel_gradient(x, g, padding), backward(g)[1]),
        ]
        for found, wanted in pairs:
            np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-13 * np.abs(wanted).max())


@pytest.mark.parametrize("features", [64, 256])
def test_winograd_rounds_little_more_than_the_plain_sum(features):
    """Root mean squares against float64: outputs and images' gradients, then kernels'."""
    generator = np.random.default_rng(0)
    shapes = ((8, 8, 8, features), (3, 3, features, features), (8, 8, 8, features))
    arrays = [generator.normal(size=shape).astype(np.float32) for shape in shapes]

    def plain(x, kernel, g):
        outputs, backward = jax.vjp(lambda x, k: plain_conv(x, k, 1, 1), x, kernel)
        return outputs, *backward(g)

    def fast(x, kernel, g):
        turned = kernel[::-1, ::-1]
        return (
            winograd.convolve(x, kernel, 1),
            winograd.convolve(g, turned, 1, transposed=True),
            winograd.kernel_gradient(x, g, 1),
        )

    with jax.enable_x64(True):
        exact = [np.asarray(value) for value in plain(*(a.astype(np.float64) for a in arrays))]

    def error(found, wanted):
        return np.sqrt(np.square(np.asarray(found, np.float64) - wanted).mean())

    for bound, wanted, ours, theirs in zip(
        (3, 3, 6), exact, fast(*arrays), plain(*arrays), strict=True
    ):
        assert error(ours, wanted) <= bound * error(theirs, wanted)


def shapes_of(name: str, stem: str, size: int) -> set[tuple]:
    """(image shape, kernel shape, stride, padding) of each convolution of a network."""
    found = set()
    with pytest.MonkeyPatch.context() as patch:

        def note(x, kernel, stride, padding):
            found.add((x.shape, kernel.shape, stride, padding))
            return plain_conv(x, kernel, stride, padding)

        patch.setattr(conv, "fast_conv", note)
        patch.setattr(conv, "plain_conv", note)
        model = create_model(name, stem=stem, rngs=nnx.Rngs(0))
        jax.eval_shape(lambda x: model(x, train=False), jnp.zeros((2, size, size, 3)))
    return found


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


@pytest.mark.parametrize("convolution", ["fast", "plain"])
def test_the_plain_convolution_can_be_chosen(convolution, monkeypatch):
    used = []
    for name, function in (("fast", fast_conv), ("plain", plain_conv)):

        def note(*arguments, name=name, function=function):
            used.append(name)
            return function(*arguments)

        monkeypatch.setattr(conv, f"{name}_conv", note)
    layer = Conv(3, 4, 3, convolution=convolution, rngs=nnx.Rngs(0))
    layer(jnp.ones((1, 4, 4, 3)))
    assert used[0] == (convolution if jax.default_backend() == "cpu" else "plain")
