"""What the talk says beside its figures, put to the test: each by numbers computed here."""

import jax
import jax.numpy as jnp
from flax import nnx

from experiments.harness.claims import claim
from experiments.harness.memory_lines import FLOAT32, MIB
from experiments.harness.parts import Part
from experiments.harness.published import published
from jaxresnet.kernels.conv import plain_conv
from jaxresnet.models.layers import BatchNorm, Conv, dropout
from jaxresnet.report.document import Claim
from jaxresnet.report.tables import Table

# Pixels a side and kernel: the talk's example, ResNet's stem and its first 3x3 convolution.
_CONVOLUTIONS = ((5, 3), (224, 7), (56, 3))
_DROPOUT_RATES = (0.2, 0.5)  # the ends of the talk's usual range
_DROPOUT_VALUES = 1_000_000


def check_gradient() -> Claim:
    """The talk's first example: f(a, b) = ax + by + z, squared error. Agrees if all three do."""
    inputs, weights, target = jnp.array([1.0, 9.0, 1.0]), jnp.array([3.0, 2.0, -5.0]), 4.0
    right = jax.grad(lambda w: jnp.square(w @ inputs - target))(weights).tolist()
    forgetful = jax.grad(lambda w: jnp.square(w @ inputs))(weights).tolist()
    said = published()["resnet152"]["example_gradient"]
    return claim(
        f"f(1, 9) = 16 instead of 4: the squared error has the gradient {_listed(said)}",
        _listed(right),
        said == right,
        f"the talk drops the 4 as it expands the square; {_listed(forgetful)} would follow then",
    )


def _listed(values: list[float]) -> str:
    return ", ".join(f"{value:g}" for value in values)


def check_output_sizes() -> tuple[Table, list[Claim]]:
    """Pixels a side after a convolution with stride 1, and the padding that keeps their number.

    The talk's formulas agree if they hold for all of the examples.
    """

    def pixels(n: int, k: int, padding: int) -> int:
        images, kernel = (
            jax.ShapeDtypeStruct(s, jnp.float32) for s in ((1, n, n, 1), (k, k, 1, 1))
        )
        return jax.eval_shape(lambda x, w: plain_conv(x, w, 1, padding), images, kernel).shape[1]

    sizes = {(n, k): pixels(n, k, 0) for n, k in _CONVOLUTIONS}
    paddings = {(n, k): next(p for p in range(k) if pixels(n, k, p) == n) for n, k in sizes}
    rows = [
        [
            f"{k}x{k} on {n}x{n}",
            *map(str, (size, n - k + 1, n - 2 * (k - 1), paddings[n, k], k - 1)),
        ]
        for (n, k), size in sizes.items()
    ]
    columns = ["convolution", "output", "n - k + 1", "the talk:\nn - 2 (k - 1)"]
    columns += ["padding that\nkeeps the size", "the talk:\nk - 1"]
    title = "Pixels a side of a convolution's output, with stride 1 and without padding"
    (name, size, _, said, padding, said_padding), *_ = rows
    return Table(title, columns, rows), [
        claim(
            f"without padding n - 2 (k - 1) pixels a side are left: {said} of a {name}",
            size,
            all(size == n - 2 * (k - 1) for (n, k), size in sizes.items()),
            "it is n - k + 1",
        ),
        claim(
            f"k - 1 pixels of padding on each side keep the size: {said_padding} for a {name}",
            padding,
            all(padding == k - 1 for (_, k), padding in paddings.items()),
            "it is (k - 1) / 2, as in the talk's own code",
        ),
    ]


def check_bytes(parameters: int) -> Claim:
    """The talk writes 4 KiB and computes with 4 bytes."""
    return claim(
        "each parameter uses around 4 KiB",
        f"{FLOAT32} bytes: three copies take {3 * FLOAT32 * parameters / MIB:,.2f} MiB, and would "
        f"take {3 * 2**12 * parameters / MIB:,.0f} MiB",
        FLOAT32 == 2**12,
        "the talk's own 689.71 MiB is by 4 bytes",
    )


def check_shortcuts(parts: list[Part]) -> Claim:
    """Agrees if every projection has stride 2 and twice the channels."""
    strides, factors = {}, {}
    for part in parts:
        if part.title.endswith("shortcut"):
            (rows, _, inputs), (new_rows, _, outputs) = (
                part.layers[0].input_shape,
                part.layers[0].output_shape,
            )
            strides[part.title], factors[part.title] = rows // new_rows, outputs // inputs
    exceptions = [
        f"{title} has stride {strides[title]} and {factors[title]} times the channels"
        for title in strides
        if (strides[title], factors[title]) != (2, 2)
    ]
    return claim(
        "a shortcut that is adjusted is a 1x1 convolution with stride 2 and twice the channels",
        "; ".join(exceptions) or "so are all",
        not exceptions,
        "after the max pool the size is right, and only the channels are not",
    )


def measure_bias() -> float:
    """The greatest change that a convolution's bias makes after batch norm, of outputs around 1."""
    conv = Conv(3, 64, 3, use_bias=True, rngs=nnx.Rngs(0))
    norm = BatchNorm(64)
    images = jax.random.normal(jax.random.key(0), (8, 16, 16, 3))
    assert conv.bias is not None
    with_bias = norm(conv(images), train=True)
    conv.bias = None
    return float(jnp.abs(with_bias - norm(conv(images), train=True)).max())


def check_dropout() -> tuple[Table, Claim]:
    """The means of what is 1 without dropout.

    The talk's rule agrees if it keeps the mean from training to testing within 1%.
    """
    rows, kept = [], []
    for rate in _DROPOUT_RATES:
        outputs = dropout(jnp.ones(_DROPOUT_VALUES), rate, jax.random.key(0))
        talk = float((outputs > 0).mean()), 1 - rate
        here = float(outputs.mean()), 1.0
        kept += [abs(training / testing - 1) < 0.01 for training, testing in (talk, here)]
        rows.append([f"{rate:g}", *(f"{mean:.3f}" for mean in (*talk, *here))])
    columns = [
        "p",
        "the talk:\ntraining",
        "the talk:\ntesting",
        "here:\ntraining",
        "here:\ntesting",
    ]
    table = Table(
        "Dropout: the mean of values that are 1",
        columns,
        rows,
        f"Over {_DROPOUT_VALUES:,} values. The talk multiplies by 1 - p in testing. PyTorch, and "
        "this project, divide by 1 - p in training (inverted dropout) and do nothing in testing.",
    )
    return table, claim(
        "with dropout, outputs are multiplied by 1 - p in testing, so that sums stay as large",
        "they do; frameworks divide by 1 - p in training instead, to the same effect",
        all(kept),
        "the means differ",
    )
