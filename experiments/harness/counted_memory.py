"""What a training keeps, counted from its network's shapes, beside the talk's list."""

import math
from dataclasses import dataclass
from functools import cached_property

import jax
import jax.numpy as jnp

from experiments.harness.counting import count_optimizer_state
from experiments.harness.measured_steps import StepSettings
from experiments.harness.memory_lines import FLOAT32, MIB, MemoryLine, listed_values, talk_line
from experiments.harness.parts import Part, list_parts
from experiments.harness.published import published
from jaxresnet.data.imagenet import CLASSES
from jaxresnet.models.layers import Conv
from jaxresnet.models.summary import (
    Layer,
    Shape,
    count_parameters,
    kept_for_backward,
    list_layers,
)
from jaxresnet.optim import OPTIMIZERS
from jaxresnet.report.tables import Table, number
from jaxresnet.train.state import split_model


@dataclass(frozen=True)
class CountedMemory:
    """Of a network that keeps all that its backward pass needs, without rematerialisation.

    Attributes:
      value_bytes: of an activation.
      parameters, batch_stats: values. optimizer_state: likewise, by the optimizer's name.
    """

    layers: list[Layer]
    value_bytes: int
    parameters: int
    batch_stats: int
    optimizer_state: dict[str, int]

    @property
    def parts(self) -> list[Part]:
        return list_parts(self.layers)

    @cached_property
    def kept(self) -> dict[str, list[Shape]]:
        """Arrays of one image, by layer's name."""
        return kept_for_backward(self.layers)

    @property
    def kept_values(self) -> int:
        return sum(self._values(layer) for layer in self.layers)

    def _values(self, layer: Layer) -> int:
        return sum(map(math.prod, self.kept[layer.name]))

    def part_values(self, part: Part) -> int:
        """Kept by all blocks of a part."""
        return part.times * sum(self._values(layer) for layer in part.layers)

    def weights_bytes(self, optimizer: str) -> int:
        """Parameters, gradients, and what the optimizer keeps: float32 whatever activations are."""
        return FLOAT32 * (2 * self.parameters + self.optimizer_state[optimizer])

    def line(self, optimizer: str) -> MemoryLine:
        """All that is counted."""
        fixed = self.weights_bytes(optimizer) + FLOAT32 * self.batch_stats
        return MemoryLine(self.value_bytes * self.kept_values, fixed)

    @property
    def padding_values(self) -> int:
        """The zeros around convolutions' inputs, half a kernel on each side."""
        values = 0
        for layer in self.layers:
            if layer.kind is Conv:
                rows, columns, features = layer.input_shape
                zeros = 2 * (layer.weights["kernel"][-1] // 2)
                values += ((rows + zeros) * (columns + zeros) - rows * columns) * features
        return values

    @property
    def shared_values(self) -> int:
        """Inputs of layers that an earlier layer takes too: those of the shortcuts."""
        return sum(math.prod(x.input_shape) for x in self.layers if x.weights and x.shares_input)

    @property
    def rectified_values(self) -> int:
        """What rectifiers keep that is the input of no convolution."""
        taken = [layer for layer in self.layers if layer.weights and not layer.shares_input]
        return self.kept_values - sum(math.prod(layer.input_shape) for layer in taken)


def count_memory(settings: StepSettings) -> CountedMemory:
    """By the shapes of the settings' network and image size."""
    model = settings.model.create_abstract(CLASSES)
    _, params, batch_stats = split_model(model)
    return CountedMemory(
        layers=list_layers(model, settings.images.image_size),
        value_bytes=jnp.dtype(settings.model.dtype).itemsize,
        parameters=count_parameters(model),
        batch_stats=sum(leaf.size for leaf in jax.tree.leaves(batch_stats)),
        optimizer_state=count_optimizer_state(params),
    )


def make_part_table(counted: CountedMemory) -> Table:
    """What is kept of one image, beside the talk's list, part by part."""
    listed, total = listed_values(), counted.kept_values
    rows = [
        [
            part.title,
            str(part.times),
            number(values * counted.value_bytes / MIB),
            f"{100 * values / total:.1f}",
            number(listed[part.title] * FLOAT32 / MIB if part.title in listed else None),
        ]
        for part, values in ((part, counted.part_values(part)) for part in counted.parts)
    ]
    sums = number(total * counted.value_bytes / MIB), number(sum(listed.values()) * FLOAT32 / MIB)
    rows.append(["all", "", sums[0], "100.0", sums[1]])
    return Table(
        "What the backward pass needs of one image, by part of the network",
        ["part", "times", "MiB here", "%", "MiB in the\ntalk's list"],
        rows,
        "Here: each array once, of the network that this run trains, if none is computed again. "
        "The talk's list: ResNet-152 in float32, by 4 bytes a value.",
    )


def make_difference_table(counted: CountedMemory) -> Table:
    """From the talk's sum to what this network keeps, for the talk's network in float32."""
    talk, listed = talk_line().per_image, sum(listed_values().values()) * FLOAT32
    steps = {
        "the talk's sum": talk,
        "a value has 4 bytes, no more": listed - talk,
        "zeros of padding: convolutions add them as they read": -FLOAT32 * counted.padding_values,
        "inputs of shortcuts: the block's first convolution keeps them": (
            -FLOAT32 * counted.shared_values
        ),
        "outputs of rectifiers that the list lacks: the stem's, the last block's": (
            FLOAT32 * counted.rectified_values
        ),
    }
    counted_bytes = counted.value_bytes * counted.kept_values
    rest = counted_bytes - sum(steps.values())
    steps |= {"the rest": rest, "counted here": counted_bytes}
    rows = [[name, f"{round(value / MIB, 4) + 0.0:,.4f}"] for name, value in steps.items()]
    return Table("From the talk's sum to this count, for one image", ["", "MiB"], rows)


def make_optimizer_table(counted: CountedMemory) -> Table:
    """What each optimizer needs for weights, beside the talk's three copies."""
    figures = published()["resnet152"]
    said = 3 * FLOAT32 * figures["parameters_with_conv_bias"]
    third = number(said / 3 / MIB)
    rows = [["the talk: three copies", third, third, third, number(said / MIB), "1.00"]]
    for name, state in counted.optimizer_state.items():
        total = counted.weights_bytes(name)
        sizes = [FLOAT32 * values for values in (counted.parameters, counted.parameters, state)]
        cells = [number(size / MIB) for size in (*sizes, total)]
        rows.append([OPTIMIZERS[name].title, *cells, f"{total / said:.2f}"])
    columns = ["optimizer", "parameters", "gradients", "its state", "together", "to the talk's"]
    return Table(
        "Weights, gradients and optimizer state (MiB)",
        columns,
        rows,
        f"In float32. Here: {counted.parameters:,} parameters; batch norm's statistics take "
        f"{number(FLOAT32 * counted.batch_stats / MIB)} MiB more. The talk: "
        f"{figures['parameters_with_conv_bias']:,}.",
    )


def make_layer_table(counted: CountedMemory) -> Table:
    """Every array that is kept, of equal blocks once."""
    rows = []
    for part in counted.parts:
        for layer in part.layers:
            inputs = int(bool(layer.weights) and not layer.shares_input)
            for index, shape in enumerate(counted.kept[layer.name]):
                role = "input" if index < inputs else "rectified output"
                inner = layer.path[3:] if "stages" in layer.path else layer.path[-1:]
                name = ".".join(map(str, inner)) or "the block"
                size = part.times * math.prod(shape) * counted.value_bytes
                label = f"{part.title}: {role} of {name}"
                rows.append([label, str(list(shape)), str(part.times), number(size / MIB, 3)])
    return Table(
        "What the backward pass needs of one image, layer by layer",
        ["array", "shape", "times", "MiB"],
        rows,
        "Shapes: [height, width, channels]. MiB: of all equal blocks. A layer that is missing "
        "takes an array that another keeps.",
    )
