"""A ResNet's layers in the parts in which the talk walks through them."""

from dataclasses import dataclass
from itertools import groupby

from jaxresnet.models.summary import Layer


@dataclass(frozen=True)
class Part:
    """Layers that stand together: the stem, equal blocks of a stage, a shortcut, the classifier.

    Attributes:
      title: by the names of the paper's table 1, such as "conv2_x, first block".
      times: how many equal ones follow one another. layers: of one of them.
    """

    title: str
    times: int
    layers: list[Layer]


def list_parts(layers: list[Layer]) -> list[Part]:
    """The parts of what list_layers gives, in order; the network's own call is in none."""

    def within(*path: object) -> list[Layer]:
        return [layer for layer in layers if layer.path[: len(path)] == path]

    parts = [Part("conv1", 1, within("stem"))]
    for stage in dict.fromkeys(layer.path[1] for layer in within("stages")):
        name = f"conv{stage + 2}_x"
        numbers = dict.fromkeys(layer.path[2] for layer in within("stages", stage))
        blocks = [within("stages", stage, number) for number in numbers]
        groups = [list(equal) for _, equal in groupby(blocks, key=_form)]
        titles = ["first block", "other blocks"] if len(groups) > 1 else ["blocks"]
        for title, equal in zip(titles, groups, strict=True):
            main = [layer for layer in equal[0] if "shortcut" not in layer.path]
            shortcut = [layer for layer in equal[0] if "shortcut" in layer.path]
            parts.append(Part(f"{name}, {title}", len(equal), main))
            if shortcut:
                parts.append(Part(f"{name}, shortcut", len(equal), shortcut))
    return [*parts, Part("classifier", 1, within("classifier"))]


def _form(block: list[Layer]) -> list[object]:
    """What equal blocks have in common."""
    return [
        (layer.path[3:], layer.kind, layer.input_shape, layer.output_shape, layer.weights)
        for layer in block
    ]
