"""Q1 to Q4: layers, parameters, gradients and optimizer state of ResNet-18, counted."""

from typing import Any

import jax
import jax.numpy as jnp

from experiments.harness.claims import claim
from experiments.harness.command import run_command
from experiments.harness.counting import (
    CountingSettings,
    count_optimizer_state,
    count_values,
    run_counting,
)
from experiments.harness.published import LABS, published
from jaxresnet.models import summary
from jaxresnet.models.layers import Conv, Linear
from jaxresnet.models.resnet import ResNet
from jaxresnet.optim import OPTIMIZERS
from jaxresnet.report.document import Claim, Report
from jaxresnet.report.tables import MISSING, Table, number
from jaxresnet.train.state import split_model

EXPERIMENT = "q_parameters"

_IMAGE_SIZE = 32
_WHERE_WRONG = (
    "Where the labs were wrong. Q1: lab-a's 16 leaves out the stem and the shortcuts; lab-b's 17 "
    "is the main path alone, its 20 is right; lab-c's 46 is not the 20 convolutions of the layer "
    "table that it prints. Q2: lab-c gives the shape before the average pooling. Q3 and Q4: lab-a "
    "gives convolutions biases that they do not have, and 1,000 classes; {note}. The number of "
    "parameters and gradients does not depend on the optimizer; what it keeps besides does."
)
# A row's name, its count, and the labs' answers in published.toml.
_ROWS = (
    ("Q1: convolutions", "convolutions", "q1_conv_layers"),
    ("  of them 1x1 shortcuts", "shortcuts", ""),
    ("Q2: input of the last layer", "last_linear_input", "q2_last_linear_input"),
    ("Q3: parameters, SGD", "parameters", "q3_parameters_sgd"),
    ("Q4: parameters, Adam", "parameters", "q4_parameters_adam"),
    ("  gradients, either", "gradients", ""),
    ("C7: parameters without norm", "parameters_without_norm", "c7"),
)


SETTINGS = CountingSettings


def main(arguments: list[str]) -> None:
    """Parses the command line, counts, and reports."""
    run_counting(EXPERIMENT, __doc__, count_and_report, arguments)


def count_and_report() -> tuple[dict[str, Any], Report]:
    """The counts, and the report of them."""
    model = summary.abstract_model("resnet18")
    bare = summary.abstract_model("resnet18", norm="none")
    counts = count(model, bare)
    return counts, report(counts, model, bare)


def count(model: ResNet, bare: ResNet) -> dict[str, Any]:
    """Counts by walking over the model that the experiments train, and the one without norm.

    state: values that each optimizer keeps besides the parameters, by its name.
    """
    layers = summary.list_layers(model, _IMAGE_SIZE)
    # [out, in, height, width]
    kernels = [layer.weights["kernel"] for layer in layers if layer.kind is Conv]
    linear = [layer for layer in layers if layer.kind is Linear]
    network, params, batch_stats = split_model(model)

    def loss(params: Any, batch_stats: Any, images: jax.Array) -> jax.Array:
        logits, _ = network.apply(params, batch_stats, images, train=True)
        return logits.sum()

    images = jax.ShapeDtypeStruct((1, _IMAGE_SIZE, _IMAGE_SIZE, 3), jnp.float32)
    return {
        "convolutions": len(kernels),
        "shortcuts": sum(kernel[2] == 1 for kernel in kernels),
        "last_linear_input": linear[-1].input_shape[0],
        "parameters": summary.count_parameters(model),
        "gradients": count_values(jax.grad(loss), params, batch_stats, images),
        "parameters_without_norm": summary.count_parameters(bare),
        "state": count_optimizer_state(params),
    }


def report(counts: dict[str, Any], model: ResNet, bare: ResNet) -> Report:
    """The questions with all answers, what each optimizer keeps, and the layers."""
    stateless = [OPTIMIZERS[name].title for name, size in counts["state"].items() if size == 0]
    none_for = f", {' and '.join(stateless)} none" if stateless else ""
    questions, claims = _compare_answers(counts)
    return Report(
        "Q1 to Q4: layers, parameters and optimizer state",
        'ResNet-18 with the CIFAR stem and 10 classes; every figure under "counted" comes from '
        "walking over the model that the experiments train.",
        [questions, _state_table(counts)],
        asked=(
            "How many convolutional layers are there (Q1), how wide is the last layer's input "
            "(Q2), and how many parameters and gradients are trained with SGD (Q3) and Adam (Q4)?"
        ),
        findings=[
            f"{counts['convolutions']} convolutions, {counts['last_linear_input']} inputs of the "
            f"last layer, {counts['parameters']:,} parameters and {counts['gradients']:,} "
            "gradients, whatever the optimizer; Adam keeps "
            f"{counts['state']['adam'] / counts['parameters']:.0f} more values for each "
            f"parameter{none_for}."
        ],
        claims=claims,
        details=[
            _layer_table("ResNet-18, CIFAR stem", model, ""),
            _layer_table("ResNet-18 without batch normalisation", bare, "_without_norm"),
        ],
    )


def _compare_answers(counts: dict[str, Any]) -> tuple[Table, list[Claim]]:
    """An answer agrees if the number that is counted stands in it: some give two."""
    questions = published()["questions"]
    answers = {**questions, "c7": {"lab-c": published()["c7"]["lab-c"]["parameters"]}}
    rows, claims = [], []
    for title, name, key in _ROWS:
        counted, row = counts[name], [title, f"{counts[name]:,}"]
        for lab in LABS:
            answer = answers.get(key, {}).get(lab, MISSING)
            shown = f"{answer:,}" if isinstance(answer, int) else answer
            row.append(shown)
            if answer != MISSING:
                text = f"{lab}: {title.partition(':')[0]}, {shown}"
                agrees = str(counted) in str(answer)
                claims.append(claim(text, f"{counted:,}", agrees, "see the table's note"))
        rows.append(row)
    columns = ["question", "counted", *LABS]
    title = "The questions: counted here, and what the labs answered"
    return Table(title, columns, rows, _WHERE_WRONG.format(note=questions["lab_a_note"])), claims


def _state_table(counts: dict[str, Any]) -> Table:
    rows = [
        [
            OPTIMIZERS[name].title,
            *(f"{value:,}" for value in (counts["parameters"], counts["gradients"], size)),
            number(size / counts["parameters"]),
            number(size * 4 / 2**20),
        ]
        for name, size in counts["state"].items()
    ]
    columns = ["optimizer", "parameters", "gradients", "extra state", "per parameter"]
    return Table(
        "What each optimizer keeps besides the parameters",
        [*columns, "MiB in float32"],
        rows,
        "Extra state: values carried from step to step. An odd one, as Adam's, counts the steps.",
    )


def _layer_table(title: str, model: ResNet, variant: str) -> Table:
    """The layers as torchsummary prints them, and its totals. variant: in published.toml's keys."""
    layers = summary.list_layers(model, _IMAGE_SIZE)
    rows = [[layer.name, layer.torch_shape, f"{layer.parameters:,}"] for layer in layers]
    parameters, figures = summary.count_parameters(model), published()["resnet18_summary"]
    note = (
        f"{len(layers)} rows; {parameters:,} parameters, all trainable; parameters "
        f"{number(summary.parameters_mib(model))} MB "
        f"(published: {figures[f'params{variant}_mb']}), forward and backward pass "
        f"{number(summary.activations_mib(layers))} MB for one image "
        f"(published: {figures[f'forward_backward{variant}_mb']})."
    )
    return Table(title, ["Layer (type)", "Output Shape", "Param #"], rows, note)


if __name__ == "__main__":
    run_command(main)
