"""Q1 to Q4: layers, parameters, gradients and optimizer state of ResNet-18, counted."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import tyro
from flax import nnx
from rich.console import Console

from experiments.command import make_console, run_command, say
from experiments.published import published
from experiments.run_directory import describe_environment, finish_run, open_run_directory
from jaxresnet.models.conv import Conv
from jaxresnet.models.layers import Linear
from jaxresnet.models.resnet import ResNet, create_model
from jaxresnet.models.summary import (
    Layer,
    activations_mib,
    count_parameters,
    list_layers,
    parameters_mib,
)
from jaxresnet.optim import OptimizerOptions, create_optimizer, get_optimizer, optimizer_names
from jaxresnet.report.document import Report, write_report
from jaxresnet.report.tables import MISSING, Table, number
from jaxresnet.train.state import split_model

EXPERIMENT = "q_parameters"

_IMAGE_SIZE = 32
_LABS = ("lab-a", "lab-b", "lab-c")
_WHERE_WRONG = (
    "Where the labs were wrong. Q1: lab-a's 16 leaves out the stem and the shortcuts; lab-b's 17 "
    "is the main path alone, its 20 is right; lab-c's 46 is not the 20 convolutions of the layer "
    "table that it prints. Q2: lab-c gives the shape before the average pooling. Q3 and Q4: lab-a "
    "gives convolutions biases that they do not have, and 1,000 classes; {note}. The number of "
    "parameters and gradients does not depend on the optimizer; what it keeps besides does."
)


@dataclass(frozen=True)
class ParameterSettings:
    """Where results go."""

    out: Path = Path("runs") / EXPERIMENT
    """The run's directory."""
    fresh: bool = False
    """Delete what an earlier start left there first."""


@dataclass(frozen=True)
class Counts:
    """What this code counts. state: values that each optimizer keeps besides the parameters."""

    convolutions: int
    shortcuts: int
    last_linear_input: int
    parameters: int
    gradients: int
    parameters_without_norm: int
    state: dict[str, int]


def main(arguments: list[str]) -> None:
    """Parses the command line, counts, and reports."""
    settings = tyro.cli(
        ParameterSettings,
        prog=f"python -m experiments.{EXPERIMENT}",
        description=__doc__,
        args=arguments,
        config=(tyro.conf.FlagCreatePairsOff,),
    )
    console = make_console()
    with open_run_directory(
        settings.out,
        {"experiment": EXPERIMENT},
        asdict(settings),
        describe_environment(),
        fresh=settings.fresh,
    ):
        _report(settings.out, console)


def _report(directory: Path, console: Console) -> None:
    model = create_model("resnet18", rngs=nnx.Rngs(0))
    bare = create_model("resnet18", norm="none", rngs=nnx.Rngs(0))
    counts = _count(model, bare)
    tables = [
        _question_table(counts),
        _state_table(counts),
        _layer_table("ResNet-18, CIFAR stem", model, "params_mb", "forward_backward_mb"),
        _layer_table(
            "ResNet-18 without batch normalisation",
            bare,
            "params_without_norm_mb",
            "forward_backward_without_norm_mb",
        ),
    ]
    introduction = (
        'ResNet-18 with the CIFAR stem and 10 classes; every figure under "counted" comes from '
        "walking over the model that the experiments train."
    )
    title = "Q1 to Q4: layers, parameters and optimizer state"
    optimizers = [get_optimizer(name).label for name, size in counts.state.items() if size == 0]
    report = Report(
        title,
        introduction,
        tables[:2],
        asked=(
            "How many convolutional layers are there (Q1), how wide is the last layer's input "
            "(Q2), and how many parameters and gradients are trained with SGD (Q3) and Adam (Q4)?"
        ),
        findings=[
            f"{counts.convolutions} convolutions, {counts.last_linear_input} inputs of the last "
            f"layer, {counts.parameters:,} parameters and {counts.gradients:,} gradients, whatever "
            f"the optimizer; Adam keeps {counts.state['adam'] / counts.parameters:.0f} more values "
            f"for each parameter{_none_for(optimizers)}."
        ],
        details=tables[2:],
    )
    write_report(directory, report, console)
    finish_run(directory, asdict(counts))
    say(console, f"report: {directory / 'report.md'}")


def _count(model: ResNet, bare: ResNet) -> Counts:
    layers = list_layers(model, _IMAGE_SIZE)
    kernels = [layer.module for layer in layers if isinstance(layer.module, Conv)]
    linear = [layer.module for layer in layers if isinstance(layer.module, Linear)]
    network, params, batch_stats = split_model(model)

    def loss(params: Any, images: jax.Array) -> jax.Array:
        logits, _ = network.apply(params, batch_stats, images, train=True)
        return logits.sum()

    images = jax.ShapeDtypeStruct((1, _IMAGE_SIZE, _IMAGE_SIZE, 3), jnp.float32)
    gradients = jax.eval_shape(jax.grad(loss), params, images)
    state = {}
    for name in optimizer_names():
        optimizer = create_optimizer(name, OptimizerOptions(learning_rate=0.1))
        state[name] = _size(jax.eval_shape(optimizer.init, params))
    return Counts(
        convolutions=len(kernels),
        shortcuts=sum(kernel.kernel_size == 1 for kernel in kernels),
        last_linear_input=linear[-1].kernel.shape[0],
        parameters=count_parameters(model),
        gradients=_size(gradients),
        parameters_without_norm=count_parameters(bare),
        state=state,
    )


def _size(tree: Any) -> int:
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


def _question_table(counts: Counts) -> Table:
    """Each question with the count and what each lab said."""
    counted = {
        "Q1: convolutions": (counts.convolutions, "q1_conv_layers"),
        "  of them 1x1 shortcuts": (counts.shortcuts, None),
        "Q2: input of the last layer": (counts.last_linear_input, "q2_last_linear_input"),
        "Q3: parameters, SGD": (counts.parameters, "q3_parameters_sgd"),
        "  gradients": (counts.gradients, "q3_parameters_sgd"),
        "Q4: parameters, Adam": (counts.parameters, "q4_parameters_adam"),
        "  gradients ": (counts.gradients, "q4_parameters_adam"),
    }
    questions = published()["questions"]
    rows = [
        [title, f"{count:,}", *(_answer(questions[key][lab] if key else None) for lab in _LABS)]
        for title, (count, key) in counted.items()
    ]
    bare = f"{counts.parameters_without_norm:,}"
    theirs = _answer(published()["c7"]["lab-c"]["parameters"])
    rows.append(["C7: parameters without norm", bare, MISSING, MISSING, theirs])
    return Table(
        "The questions: counted here, and what the labs answered",
        ["question", "counted", *_LABS],
        rows,
        _WHERE_WRONG.format(note=questions["lab_a_note"]),
    )


def _none_for(optimizers: list[str]) -> str:
    return f", {' and '.join(optimizers)} none" if optimizers else ""


def _answer(value: Any) -> str:
    if value is None:
        return MISSING
    return f"{value:,}" if isinstance(value, int) else str(value)


def _state_table(counts: Counts) -> Table:
    rows = [
        [
            get_optimizer(name).label,
            f"{counts.parameters:,}",
            f"{counts.gradients:,}",
            f"{values:,}",
            number(values / counts.parameters, 2),
            number(values * 4 / 2**20, 2),
        ]
        for name, values in counts.state.items()
    ]
    columns = [
        "optimizer", "parameters", "gradients", "extra state", "per parameter", "MiB in float32",
    ]  # fmt: skip
    note = "Extra state: values carried from step to step. Adam's odd one counts the steps."
    return Table("What each optimizer keeps besides the parameters", columns, rows, note)


def _layer_table(title: str, model: ResNet, params_key: str, activations_key: str) -> Table:
    """The layers as torchsummary prints them, and its totals."""
    layers: list[Layer] = list_layers(model, _IMAGE_SIZE)
    rows = [[layer.name, layer.torch_shape, f"{layer.parameters:,}"] for layer in layers]
    theirs = published()["resnet18_summary"]
    note = (
        f"{len(layers)} rows; {count_parameters(model):,} parameters, all trainable; parameters "
        f"{number(parameters_mib(model))} MB (published: {theirs[params_key]}), forward and "
        f"backward pass {number(activations_mib(layers))} MB for one image (published: "
        f"{theirs[activations_key]})."
    )
    return Table(title, ["Layer (type)", "Output Shape", "Param #"], rows, note)


if __name__ == "__main__":
    run_command(main)
