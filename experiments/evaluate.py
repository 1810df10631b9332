"""Test loss, top-1 and top-5 of given weights, PyTorch's or this project's."""

from dataclasses import MISSING, asdict, dataclass
from pathlib import Path
from typing import Annotated, Literal

import jax
import jax.numpy as jnp
import tyro
from flax import nnx

from experiments.harness import run_directory
from experiments.harness.command import make_console, run_command
from experiments.harness.environment import describe_environment
from experiments.harness.images import load_images
from experiments.harness.settings import DirectoryOptions, parse_settings
from jaxresnet import platform
from jaxresnet.data.loaders import WorkerOptions
from jaxresnet.data.sources import ImageOptions, SourceOptions
from jaxresnet.errors import UserError
from jaxresnet.models.resnet import create_model
from jaxresnet.options import unpublished
from jaxresnet.report.document import Report, write_report
from jaxresnet.report.tables import Column, make_table
from jaxresnet.train.figures import Record, figures_for
from jaxresnet.train.state import split_model
from jaxresnet.train.step import evaluate, make_eval_step
from jaxresnet.train.weights import describe_model, load_model, weights_fingerprint

EXPERIMENT = "evaluate"


@dataclass(frozen=True)
class EvaluateSettings:
    """What is evaluated, and how."""

    weights: Annotated[Path, tyro.conf.arg(aliases=["--init-from"])] = unpublished(
        MISSING, affects="result"
    )
    """A .pth, .pt or .safetensors file by PyTorch's names, a run's directory (its newest
    checkpoint), or a directory of weights. A run's are evaluated on its own data set, unless
    another is asked for."""
    dtype: Literal["float32", "bfloat16"] = unpublished("float32", affects="result")
    """Of convolutions and activations."""
    batch_size: int = unpublished(128, affects="time", at_least=1)
    """Images in a step."""
    eval_images: int | None = unpublished(None, affects="result", at_least=1)
    """Evaluate on a fixed choice of so many test images. None: all of them."""
    source: SourceOptions = SourceOptions()
    loader: WorkerOptions = WorkerOptions()
    output: DirectoryOptions = DirectoryOptions()


SETTINGS = EvaluateSettings


def main(arguments: list[str]) -> None:
    """Parses the command line, evaluates, and reports."""
    settings, console = parse_settings(SETTINGS, EXPERIMENT, __doc__, arguments), make_console()
    output = settings.output
    run_directory.check_directory(output.out, EXPERIMENT)
    options, weights = load_model(settings.weights)
    source = _own_source(settings)
    images = ImageOptions(**asdict(source), eval_images=settings.eval_images)
    dataset = load_images(images, console)
    if options["num_classes"] != len(dataset.class_names):
        raise UserError(
            f"{settings.weights} is for {options['num_classes']} classes, but {dataset.title} "
            f"({dataset.location}) have {len(dataset.class_names)}: name others with --data and "
            "--data-dir"
        )
    identity = {
        "experiment": EXPERIMENT,
        "images": dataset.title,
        "data fingerprint": dataset.fingerprint(),
        "weights": weights_fingerprint(weights),
        "--dtype": settings.dtype,
        "--eval-images": len(dataset.test),
        "--image-size": dataset.test.image_size,
    }
    directory = output.out or run_directory.default_directory(EXPERIMENT, dataset.name, identity)
    with run_directory.open_run_directory(
        directory, identity, asdict(settings), describe_environment(), fresh=output.fresh
    ):
        model = create_model(**options, dtype=jnp.dtype(settings.dtype), rngs=nnx.Rngs(0))
        step = make_eval_step(split_model(model)[0], dataset.normalise)
        params, batch_stats = jax.device_put((weights.params, weights.batch_stats))
        summary = {
            "experiment": EXPERIMENT,
            "images": dataset.title,
            "weights": str(settings.weights),
            "network": describe_model(options, weights),
            "machine": platform.machine(),
            **evaluate(
                step, params, batch_stats, dataset.test, settings.batch_size, settings.loader
            ),
        }
        title = f"On {dataset.title} ({dataset.location})"
        note = "Accuracies in per cent; time in seconds, with compiling."
        table = make_table(title, _columns(options["num_classes"]), [summary], note)
        size = dataset.test.image_size
        seen = f"{summary['network']}, in {settings.dtype}, on {size}x{size} pixels"
        introduction = f"{seen}; {summary['machine']}."
        write_report(directory, Report("Evaluation", introduction, [table]), console)
        run_directory.finish_run(directory, summary)


def _own_source(settings: EvaluateSettings) -> SourceOptions:
    """That of the run which the weights lie in, with what the command line gives; else the latter.

    Another data set has nothing of the run's.
    """
    given, default = asdict(settings.source), asdict(SourceOptions())
    if any(given[name] != default[name] for name in ("data", "data_dir")):
        return settings.source
    path = settings.weights.expanduser().absolute()
    for directory in (path, *path.parents):
        if images := run_directory.read_settings(directory).get("all", {}).get("images"):
            own = {name: images.get(name, default[name]) for name in default}
            own["data_dir"] = own["data_dir"] and Path(own["data_dir"])
            own |= {name: value for name, value in given.items() if value != default[name]}
            return SourceOptions(**own)
    return settings.source


def _columns(classes: int) -> list[Column[Record]]:
    """Of the only row, the evaluation's figures."""
    return [
        Column("weights", lambda row: row["weights"]),
        Column("test images", lambda row: row["test_images"], 0),
        *(
            Column(f.header, lambda row, f=f: row[f.name], f.digits + 1, f.scale)
            for f in figures_for(classes)
            if f.test
        ),
        Column("time", lambda row: row["test_seconds"], 1),
    ]


if __name__ == "__main__":
    run_command(main)
