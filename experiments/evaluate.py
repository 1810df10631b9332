"""Test loss and top-1 of given weights, PyTorch's or this project's."""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import jax.numpy as jnp
import tyro
from flax import nnx

from experiments.command import make_console, run_command, say
from experiments.images import load_images
from experiments.run_directory import (
    check_directory,
    default_directory,
    describe_environment,
    finish_run,
    open_run_directory,
)
from experiments.settings import SourceSettings, at_least, check_source
from jaxresnet import platform
from jaxresnet.data.dataset import Dataset
from jaxresnet.errors import UserError
from jaxresnet.models.resnet import create_model
from jaxresnet.models.torch_weights import Weights
from jaxresnet.report.document import Report, write_report
from jaxresnet.report.tables import Table, number, percent, seconds
from jaxresnet.train.evaluation import evaluate
from jaxresnet.train.metrics import EvalResult
from jaxresnet.train.state import split_model
from jaxresnet.train.step import make_eval_step
from jaxresnet.train.weights import describe_model, load_model, weights_fingerprint

EXPERIMENT = "evaluate"


@dataclass(frozen=True)
class WeightSettings:
    """What is evaluated, and how."""

    weights: Annotated[Path, tyro.conf.arg(aliases=["--init-from"])]
    """A .pth, .pt or .safetensors file in torchvision's or kuangliu/pytorch-cifar's names, a
    run's directory (its newest checkpoint), or a directory of weights."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Of convolutions and activations."""
    batch_size: int = 128
    eval_images: int | None = None
    """Evaluate on a fixed choice of so many test images. None: all of them."""
    out: Path | None = None
    """The run's directory. None: runs/evaluate/<name made from the settings>."""
    fresh: bool = False
    """Delete what an earlier evaluation left there first."""


@dataclass(frozen=True)
class EvaluateSettings:
    """All options of the experiment."""

    evaluate: WeightSettings
    data: SourceSettings = field(default_factory=SourceSettings)


def main(arguments: list[str]) -> None:
    """Parses the command line, evaluates, and reports.

    Raises:
      UserError: the weights or the images are not usable, or do not go together.
    """
    all_settings = tyro.cli(
        EvaluateSettings,
        prog=f"python -m experiments.{EXPERIMENT}",
        description=__doc__,
        args=arguments,
        config=(tyro.conf.OmitArgPrefixes, tyro.conf.FlagCreatePairsOff),
    )
    settings = all_settings.evaluate
    check_source(all_settings.data)
    at_least("--batch-size", settings.batch_size, 1)
    at_least("--eval-images", settings.eval_images, 1)
    if settings.out is not None:
        check_directory(settings.out, EXPERIMENT)
    console = make_console()
    options, weights = load_model(settings.weights)
    dataset = load_images(all_settings.data, None, settings.eval_images, console)
    if options["num_classes"] != len(dataset.class_names):
        raise UserError(
            f"{settings.weights} is for {options['num_classes']} classes, but {dataset.location} "
            f"has {len(dataset.class_names)}"
        )
    identity = {
        "experiment": EXPERIMENT,
        "images": dataset.words,
        "data fingerprint": dataset.fingerprint(),
        "weights": weights_fingerprint(weights),
        "--dtype": settings.dtype,
        "--eval-images": len(dataset.test),
    }
    directory = settings.out or default_directory(EXPERIMENT, dataset.name, identity)
    with open_run_directory(
        directory, identity, asdict(all_settings), describe_environment(), fresh=settings.fresh
    ):
        result = _evaluate(settings, options, weights, dataset)
        table = _table(settings.weights, dataset, result)
        words = describe_model(options, weights)
        introduction = f"{words}, in {settings.dtype}; {platform.machine()}."
        write_report(directory, Report("Evaluation", introduction, [table]), console)
        finish_run(directory, _summary(settings.weights, words, dataset, result))
        say(console, f"report: {directory / 'report.md'}")


def _evaluate(
    settings: WeightSettings, options: dict[str, Any], weights: Weights, dataset: Dataset
) -> EvalResult:
    model = create_model(**options, dtype=jnp.dtype(settings.dtype), rngs=nnx.Rngs(0))
    network, _, _ = split_model(model)
    return evaluate(
        make_eval_step(network),
        weights.params,
        weights.batch_stats,
        dataset.test,
        settings.batch_size,
        on_batch=lambda *_: None,
    )


def _summary(path: Path, words: str, dataset: Dataset, result: EvalResult) -> dict[str, object]:
    return {
        "experiment": EXPERIMENT,
        "images": dataset.words,
        "weights": str(path),
        "network": words,
        "machine": platform.machine(),
        "test_images": result.images,
        "test_loss": result.loss,
        "test_top1": result.top1,
        "seconds": result.seconds,
    }


def _table(path: Path, dataset: Dataset, result: EvalResult) -> Table:
    row = [
        str(path),
        f"{result.images:,}",
        number(result.loss, 4),
        percent(result.top1, 2),
        seconds(result.seconds),
    ]
    columns = ["weights", "test images", "test loss", "test top-1", "time"]
    note = "Top-1 in per cent; time in seconds, with compiling."
    return Table(f"On {dataset.words} ({dataset.location})", columns, [row], note)


if __name__ == "__main__":
    run_command(main)
