"""Weights from PyTorch to this project and back: .pth, .safetensors, or a directory."""

from dataclasses import MISSING, dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional

from experiments.harness.command import make_console, run_command, say
from experiments.harness.settings import parse_settings
from jaxresnet.models.torch_names import CONVENTIONS
from jaxresnet.options import one_of, unpublished
from jaxresnet.train.weights import check_destination, describe_model, load_model, write_weights

EXPERIMENT = "convert_weights"


@dataclass(frozen=True)
class ConvertSettings:
    """What is read and what is written."""

    source: Positional[Path] = unpublished(MISSING, affects="result")
    """A .pth, .pt or .safetensors file by PyTorch's names, a run's directory (its newest
    checkpoint), or a directory of weights."""
    destination: Positional[Path] = unpublished(MISSING, affects="nothing")
    """Must not exist. A .pth, .pt or .safetensors file; a name without a suffix becomes a
    directory of weights as checkpoints have them."""
    names: Annotated[str, one_of(CONVENTIONS, "convention")] = unpublished(
        "torchvision", affects="result"
    )
    """Whose PyTorch code will read the file: they call some modules differently."""


SETTINGS = ConvertSettings


def main(arguments: list[str]) -> None:
    """Parses the command line and converts."""
    settings = parse_settings(SETTINGS, EXPERIMENT, __doc__, arguments)
    check_destination(settings.destination)
    options, weights = load_model(settings.source)
    write_weights(settings.destination, weights, settings.names)
    destination = settings.destination.expanduser()
    files = destination.rglob("*") if destination.is_dir() else [destination]
    mebibytes = sum(file.stat().st_size for file in files if file.is_file()) / 2**20
    network = describe_model(options, weights)
    say(make_console(), f"{network}: written to {destination}, {mebibytes:,.1f} MiB")


if __name__ == "__main__":
    run_command(main)
