"""Test loss and top-1 of given weights, PyTorch's or this project's."""

from dataclasses import MISSING, asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import jax
import jax.numpy as jnp
import tyro
from flax import nnx
from jaxresnet.models.torch_names import Weights

from experiments.harness.command import make_console, run_command
from experiments.harness.environment import describe_environment
from experiments.harness.images import load_images
from experiments.harness.run_directory import (
    check_directory,
    default_directory,
    finish_run,
    open_run_directory,
)
from jaxresnet import platform
from jaxresnet.data.dataset import Dataset
from jaxresnet.data.sources import ImageOptions, SourceOptions
from jaxresnet.errors import UserError
from jaxresnet.models.resnet import create_model
from jaxresnet.options import option, parse_options
from jaxresnet.report.document import Report, write_report
from jaxresnet.report.tables import Column, Table, make_table
from jaxresnet.train.evaluation import evaluate
from jaxresnet.train.figures import FIGURES, Record
from jaxresnet.train.state import split_model
from jaxresnet.train.step import make_eval_step
from jaxresnet.train.weights import describe_model, load_model, weights_fingerprint

EXPERIMENT = "evaluate"


@dataclass(frozen=True)
class EvaluateOptions:
    """What is evaluated, and how."""

    weights: Annotated[Path, tyro.conf.arg(aliases=["--init-from"])] = option(
        MISSING, affects="result", published=False, says=""
    )
    """A .pth, .pt or .safetensors file in torchvision's or kuangliu/pytorch-cifar's names, a
    run's directory (its newest checkpoint), or a directory of weights."""
    dtype: Literal["float32", "bfloat16"] = option(
        "float32", affects="result", published=False, says="{}"
    )
    """Of convolutions and activations."""
    batch_size: int = option(128, affects="time", published=False, says="", at_least=1)
    eval_images: int | None = option(None, affects="result", published=False, says="", at_least=1)
    """Evaluate on a fixed choice of so many test images. None: all of them."""
    out: Path | None = option(None, affects="nothing", published=False, says="")
    """The run's directory. None: runs/evaluate/<name made from the settings>."""
    fresh: bool = option(False, affects="nothing", published=False, says="")
    """Delete what an earlier evaluation left there first."""


@dataclass(frozen=True)
class EvaluateSettings:
    evaluate: EvaluateOptions
    source: SourceOptions = SourceOptions()


SETTINGS = EvaluateSettings


def main(arguments: list[str]) -> None:
    """Parses the command line, evaluates, and reports.

    Raises:
      UserError: the weights or the images are not usable, or do not go together.
    """
    command = f"python -m experiments.{EXPERIMENT}"
    parsed = parse_options(SETTINGS, command, __doc__ or "", arguments)
    settings, source = parsed.evaluate, parsed.source
    if settings.out is not None:
        check_directory(settings.out, EXPERIMENT)
    console = make_console()
    options, weights = load_model(settings.weights)
    images = ImageOptions(source.data, source.data_dir, eval_images=settings.eval_images)
    dataset = load_images(images, console)
    if options["num_classes"] != len(dataset.class_names):
        raise UserError(
            f"{settings.weights} is for {options['num_classes']} classes, but {dataset.location} "
            f"has {len(dataset.class_names)}"
        )
    identity = {
        "experiment": EXPERIMENT,
        "images": dataset.title,
        "data fingerprint": dataset.fingerprint(),
        "weights": weights_fingerprint(weights),
        "--dtype": settings.dtype,
        "--eval-images": len(dataset.test),
    }
    directory = settings.out or default_directory(EXPERIMENT, dataset.name, identity)
    with open_run_directory(
        directory, identity, asdict(parsed), describe_environment(), fresh=settings.fresh
    ):
        result = _evaluate(settings, options, weights, dataset)
        network = describe_model(options, weights)
        introduction = f"{network}, in {settings.dtype}; {platform.machine()}."
        table = _table(settings.weights, dataset, result)
        write_report(directory, Report("Evaluation", introduction, [table]), console)
        summary = {
            "experiment": EXPERIMENT,
            "images": dataset.title,
            "weights": str(settings.weights),
            "network": network,
            "machine": platform.machine(),
            **result,
        }
        finish_run(directory, summary)


def _evaluate(
    settings: EvaluateOptions, options: dict[str, Any], weights: Weights, dataset: Dataset
) -> Record:
    model = create_model(**options, dtype=jnp.dtype(settings.dtype), rngs=nnx.Rngs(0))
    network, _, _ = split_model(model)
    step = make_eval_step(network, dataset.normalise)
    params, batch_stats = jax.device_put((weights.params, weights.batch_stats))
    return evaluate(step, params, batch_stats, dataset.test, settings.batch_size)


def _table(path: Path, dataset: Dataset, result: Record) -> Table:
    columns: list[Column[Record]] = [
        Column("weights", lambda _: str(path)),
        Column("test images", lambda row: row["test_images"], 0),
        *(
            Column(f.header, lambda row, f=f: row[f.name], f.digits + 1, f.scale)
            for f in FIGURES
            if f.test
        ),
        Column("time", lambda row: row["test_seconds"], 1),
    ]
    note = "Top-1 in per cent; time in seconds, with compiling."
    return make_table(f"On {dataset.title} ({dataset.location})", columns, [result], note)


if __name__ == "__main__":
    run_command(main)
