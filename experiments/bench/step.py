"""Benchmark of one training step on the CPU, in turn with PyTorch, eager and compiled."""

import math
from dataclasses import asdict, dataclass
from functools import partial
from statistics import median
from typing import Annotated, Literal

import jax

from experiments.bench.benchmark import Benchmark, ContestOptions, Findings, run_benchmark
from experiments.bench.contest import Contest, Contestant, Result
from experiments.harness.command import make_console, run_command
from jaxresnet.data.cifar import CIFAR10
from jaxresnet.models.layers import Conv, Linear
from jaxresnet.models.resnet import MODELS, ModelOptions
from jaxresnet.models.summary import list_layers
from jaxresnet.optim import OptimizerOptions
from jaxresnet.options import one_of, option, parse_options
from jaxresnet.report.tables import Column

EXPERIMENT = "bench_step"

_LARGEST_CIFAR_IMAGE = 64  # pixels; larger ones get the ImageNet stem and its classes
_CONVOLUTIONS = {"jaxresnet": "fast", "jaxresnet, plain convolution": "plain"}
_COMPILED = {"PyTorch eager": False, "PyTorch compiled": True}
_ABOUT = (
    "One step is normalising a uint8 batch, the forward and backward pass, and SGD's update; all "
    "contestants get the same batch and wait for the loss of each step."
)
_NOTE = (
    "GFLOP/s: the nominal arithmetic of a step, {gflop:,.1f} GFLOP in convolutions and the linear "
    "layer, over its time. Kernels skip products with padding, and Winograd's algorithm more than "
    "half of all (jaxresnet in float32), so that this can exceed what the chip does. % of product: "
    "of the best measured rate of a matrix product of {dtype}, {product:,.0f} GFLOP/s. Faults: "
    "pages that the kernel gave the process during a step. Peak: of memory, compiling included. "
    "First step: making the network, compiling without a cache, and the first step."
)

_option = partial(option, affects="time", published=False, says="")


@dataclass(frozen=True)
class StepSettings(ContestOptions):
    """What is timed, and how often."""

    model: Annotated[str, one_of(MODELS, "model")] = _option("resnet18")
    """The network."""
    image_size: int = _option(32, at_least=1)
    """Pixels. Up to 64: the CIFAR stem and 10 classes; above: the ImageNet stem and 1,000."""
    batch_size: int = _option(128, at_least=1)
    """Images in a step."""
    width: int = _option(64, at_least=1)
    """Channels of the first stage; 64 is the real thing, less is a thinner network."""
    dtype: Literal["float32", "bfloat16"] = _option("float32")
    """Of convolutions and activations: bfloat16 is autocast in PyTorch."""
    steps_per_round: int = _option(2, at_least=1)
    """Steps that a contestant does when it is asked."""
    warmup: int = _option(3, at_least=1)
    """Steps of each contestant before the first round."""
    plain: bool = _option(False)
    """Also time this project with the convolution gradients that JAX derives."""

    @property
    def network(self) -> ModelOptions:
        stem = "cifar" if self.image_size <= _LARGEST_CIFAR_IMAGE else "imagenet"
        return ModelOptions(model=self.model, stem=stem, width=self.width, dtype=self.dtype)

    @property
    def classes(self) -> int:
        return 10 if self.network.stem == "cifar" else 1000


def step_benchmark(settings: StepSettings) -> Benchmark:
    """The training step of this project, and PyTorch's."""
    size, network, optimizer = settings.image_size, settings.network, OptimizerOptions()
    common = {
        **asdict(settings),
        "classes": settings.classes,
        "network": asdict(network),
        "optimizer": {**asdict(optimizer), "learning_rate": optimizer.rate},
        "mean": CIFAR10.mean,
        "std": CIFAR10.std,
    }
    jax_networks = {
        name: {**asdict(network), "convolution": convolution}
        for name, convolution in _CONVOLUTIONS.items()
        if settings.plain or convolution == network.convolution
    }
    return Benchmark(
        EXPERIMENT,
        f"{network.model}-{size}-{network.dtype}",
        "One training step",
        f"{network.model}, width {network.width}, {network.stem} stem, "
        f"batch {settings.batch_size} of {size}x{size}, {network.dtype}",
        _ABOUT,
        "{framework} with {threads} threads",
        [
            Contestant(name, "experiments.bench.jax_step", {**common, "network": jax_network})
            for name, jax_network in jax_networks.items()
        ]
        + [
            Contestant(name, "experiments.bench.torch_step", {**common, "compile": compiled}, True)
            for name, compiled in _COMPILED.items()
        ],
        settings.steps_per_round,
        partial(_report, settings),
    )


def step_gflop(settings: StepSettings) -> float:
    """Nominal: of the convolutions and the linear layer, multiplications and additions alike.

    Each has three products of the same size, its outputs and both gradients; the first
    convolution needs no gradient of the images. Products with the padding count like others.
    """
    layers = list_layers(settings.network.create(settings.classes, seed=0), settings.image_size)
    products = [
        layer.module.kernel.size * math.prod(layer.output_shape[:-1])
        for layer in layers
        if isinstance(layer.module, Conv | Linear)
    ]
    return 2 * settings.batch_size * (3 * sum(products) - products[0]) / 1e9


def _faults_per_step(result: Result) -> str:
    faults = sum(answer["page_faults"] for answer in result.rounds)
    return f"{faults / sum(len(answer['seconds']) for answer in result.rounds):,.0f}"


def _report(settings: StepSettings, contest: Contest) -> Findings:
    gflop = step_gflop(settings)
    product = max(result.start["matrix_product_gflops"] for result in contest.results)
    columns: list[Column[Result]] = [
        Column("ms per step\n(range)", lambda r: r.seconds, 1, 1000),
        Column("images/s", lambda r: median(r.rates), 1),
        Column("relative\nspeed (range)", contest.relative_speed),
        Column("GFLOP/s", lambda r: gflop / median(r.seconds), 1),
        Column("% of\nproduct", lambda r: gflop / median(r.seconds) / product, 0, 100),
        Column("faults\nper step", _faults_per_step),
        Column("peak\nMB", lambda r: max(answer["peak_memory_mb"] for answer in r.rounds), 0),
        Column("first\nstep s", lambda r: r.start["first_step_seconds"], 1),
    ]
    process_settings = contest.results[0].start["process_settings"]
    switched_on = ", ".join(f"{name} {value}" for name, value, _why in process_settings)
    return Findings(
        columns,
        _NOTE.format(gflop=gflop, dtype=settings.dtype, product=product),
        f"Settings of jaxresnet's process: {switched_on or 'none'}.",
        {"step_gflop": gflop, "matrix_product_gflops": product},
    )


def main(arguments: list[str]) -> None:
    """Parses the command line, times the contestants in turn, and reports.

    Raises:
      UserError: an option makes no sense, or the output directory is not usable.
      CheckFailed: this project's step failed.
    """
    command = "python -m experiments.bench.step"
    settings = parse_options(StepSettings, command, __doc__ or "", arguments)
    run_benchmark(step_benchmark(settings), settings, make_console())


if __name__ == "__main__":
    jax.config.update("jax_platforms", "cpu")  # as in the contestants, before anything asks
    run_command(main)
