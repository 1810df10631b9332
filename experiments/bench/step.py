"""Benchmark of one training step on the CPU, in turn with PyTorch, eager and compiled."""

from dataclasses import asdict, dataclass
from statistics import median
from typing import Annotated, Any, Literal

import jax

from experiments.bench.benchmark import Benchmark, ContestOptions, time_option
from experiments.bench.contestant import Contestant
from experiments.harness.command import run_command
from jaxresnet.data.cifar import CIFAR10
from jaxresnet.models.resnet import MODELS, STEMS, Bottleneck, ModelOptions
from jaxresnet.models.summary import list_layers
from jaxresnet.optim import OptimizerOptions
from jaxresnet.options import one_of, parse_options
from jaxresnet.report.tables import Column

EXPERIMENT = "bench_step"

# This project's contestants: what each changes in the network, and the option that asks for it.
_VARIANTS: dict[str, tuple[dict[str, Any], str]] = {
    "jaxresnet": ({}, ""),
    "jaxresnet, plain convolution": ({"convolution": "plain"}, "plain"),
    "jaxresnet, remat": ({"remat": True}, "remat"),
}
_COMPILED = {"PyTorch eager": False, "PyTorch compiled": True}
_LARGEST_CIFAR_IMAGE = 64  # pixels; larger ones get the ImageNet stem and its classes
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


@dataclass(frozen=True)
class StepSettings(ContestOptions):
    """What is timed, and how often."""

    model: Annotated[str, one_of(MODELS, "model")] = time_option("resnet18")
    """The network."""
    image_size: int = time_option(32, at_least=1)
    """Pixels. Up to 64: the CIFAR stem and 10 classes; above: the ImageNet stem and 1,000."""
    batch_size: int = time_option(128, at_least=1)
    """Images in a step."""
    width: int = time_option(64, at_least=1)
    """Channels of the first stage; 64 is the real thing, less is a thinner network."""
    dtype: Literal["float32", "bfloat16"] = time_option("float32")
    """Of convolutions and activations: bfloat16 is autocast in PyTorch."""
    steps_per_round: int = time_option(2, at_least=1)
    """Steps that a contestant does when it is asked."""
    warmup: int = time_option(3, at_least=1)
    """Steps of each contestant before the first round."""
    plain: bool = time_option(False)
    """Also time this project with the convolution gradients that JAX derives."""
    remat: bool = time_option(False)
    """Also time this project with activations that the backward pass computes again."""

    @property
    def network(self) -> ModelOptions:
        stem = "cifar" if self.image_size <= _LARGEST_CIFAR_IMAGE else "imagenet"
        return ModelOptions(model=self.model, stem=stem, width=self.width, dtype=self.dtype)

    @property
    def classes(self) -> int:
        return 10 if self.network.stem == "cifar" else 1000

    def contestants(self) -> list[Contestant]:
        """This project's step and PyTorch's; see jax_step.py and torch_step.py."""
        network, optimizer = self.network, OptimizerOptions()
        block, blocks = MODELS[self.model]
        common = {
            **asdict(self),
            "classes": self.classes,
            "bottleneck": block is Bottleneck,
            "blocks": blocks,
            "stem": STEMS[network.stem],
            "optimizer": {**asdict(optimizer), "learning_rate": optimizer.rate},
            "mean": CIFAR10.mean,
            "std": CIFAR10.std,
        }
        networks = {
            name: {**asdict(network), **changed}
            for name, (changed, flag) in _VARIANTS.items()
            if not flag or getattr(self, flag)
        }
        return [
            Contestant(name, "experiments.bench.jax_step", {**common, "network": options})
            for name, options in networks.items()
        ] + [
            Contestant(name, "experiments.bench.torch_step", {**common, "compile": compiled}, True)
            for name, compiled in _COMPILED.items()
        ]


def step_gflop(settings: StepSettings) -> float:
    """Nominal: of the convolutions and the linear layer, multiplications and additions alike.

    Each has three products of the same size, its outputs and both gradients; the first
    convolution needs no gradient of the images. Products with the padding count like others.
    """
    model = settings.network.create_abstract(settings.classes)
    products = [layer.multiply_adds for layer in list_layers(model, settings.image_size)]
    return 2 * settings.batch_size * (3 * sum(products) - products[0]) / 1e9


def main(arguments: list[str]) -> None:
    """Parses the command line, times the contestants in turn, and reports.

    Raises:
      UserError: an option makes no sense, or the output directory is not usable.
      CheckFailed: this project's step failed.
    """
    command = "python -m experiments.bench.step"
    settings = parse_options(StepSettings, command, __doc__ or "", arguments)
    network, size = settings.network, f"{settings.image_size}x{settings.image_size}"
    benchmark = Benchmark(EXPERIMENT, settings)
    benchmark.run(
        f"One training step: {network.model}, width {network.width}, {network.stem} stem, "
        f"batch {settings.batch_size} of {size}, {network.dtype}",
        f"{network.model}-{settings.image_size}-{network.dtype}",
        settings.contestants(),
        settings.steps_per_round,
    )
    gflop = step_gflop(settings)
    product = max(each.start["matrix_product_gflops"] for each in benchmark.results)

    def faults_per_step(each: Contestant) -> str:
        faults = sum(answer["page_faults"] for answer in each.rounds)
        return f"{faults / sum(len(answer['seconds']) for answer in each.rounds):,.0f}"

    columns: list[Column[Contestant]] = [
        Column("ms per step\n(range)", lambda c: c.seconds, 1, 1000),
        Column("images/s", lambda c: median(c.rates), 1),
        Column("relative\nspeed (range)", benchmark.relative_speed),
        Column("GFLOP/s", lambda c: gflop / median(c.seconds), 1),
        Column("% of\nproduct", lambda c: gflop / median(c.seconds) / product, 0, 100),
        Column("faults\nper step", faults_per_step),
        Column("peak\nMB", lambda c: max(answer["peak_memory_mb"] for answer in c.rounds), 0),
        Column("first\nstep s", lambda c: c.start["first_step_seconds"], 1),
    ]
    process_settings = benchmark.results[0].start["process_settings"]
    switched_on = ", ".join(f"{name} {value}" for name, value, _why in process_settings)
    benchmark.report(
        f"{_ABOUT} Settings of jaxresnet's process: {switched_on or 'none'}.",
        "{framework}, threads: {threads}",
        columns,
        _NOTE.format(gflop=gflop, dtype=settings.dtype, product=product),
        step_gflop=gflop,
        matrix_product_gflops=product,
    )


if __name__ == "__main__":
    jax.config.update("jax_platforms", "cpu")  # as in the contestants, before anything asks
    run_command(main)
