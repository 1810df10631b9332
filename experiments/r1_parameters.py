"""R1: the talk's five networks, and ResNet-152 layer by layer, counted."""

from itertools import groupby
from typing import Any

from experiments.harness import talk
from experiments.harness.claims import claim
from experiments.harness.command import run_command
from experiments.harness.counted_network import IMAGE_SIZE, Network, count_network
from experiments.harness.counting import CountingSettings, run_counting
from experiments.harness.published import published
from experiments.harness.talk_settings import PROTOCOL
from jaxresnet.data.imagenet import CLASSES
from jaxresnet.models.resnet import MODELS, BasicBlock, Bottleneck
from jaxresnet.report.document import Claim, Report
from jaxresnet.report.tables import Column, Table, make_table

EXPERIMENT = "r1_parameters"

_WALKED = "resnet152"
# He et al. and the talk give multiply-adds in billions with one decimal.
_BILLION, _TOLERANCE = 1e9, 0.1
_KINDS = {BasicBlock: "basic block", Bottleneck: "bottleneck"}


SETTINGS = CountingSettings


def main(arguments: list[str]) -> None:
    """Parses the command line, counts, and reports."""
    run_counting(EXPERIMENT, __doc__, count_and_report, arguments)


def count_and_report() -> tuple[dict[str, Any], Report]:
    """What is counted of each network, and the report of it."""
    networks = {name: count_network(name) for name in MODELS}
    counted = ("blocks_per_stage", "parameters", "parameters_with_bias")
    counted += ("multiply_adds", "multiply_adds_in_paper")
    counts = {name: {key: getattr(n, key) for key in counted} for name, n in networks.items()}
    return {"networks": counts}, report(networks, count_network(_WALKED, conv_bias=False))


def report(networks: dict[str, Network], usual: Network) -> Report:
    """The talk's table, its walk through ResNet-152, and where it is mistaken.

    usual: ResNet-152 as others build it.
    """
    network, bias_change = networks[_WALKED], talk.measure_bias()
    sizes, size_claims = talk.check_output_sizes()
    dropout, dropout_claim = talk.check_dropout()
    return Report(
        "R1: five networks, and ResNet-152 layer by layer",
        f"Images of {IMAGE_SIZE} pixels, {CLASSES:,} classes. What is not said to be the talk's "
        "is counted by walking over the models that the experiments train, on shapes alone.",
        [_stage_table(networks), _size_table(networks), _walk_table(network), sizes, dropout],
        asked="What are the five ResNets made of, what do they cost, and where does each of "
        "ResNet-152's parameters sit?",
        findings=[
            f"ResNet-152 has {network.parameters_with_bias:,} parameters as the talk builds it and "
            f"{network.parameters:,} as it usually is: without the {network.biases:,} biases of "
            "convolutions, which batch norm subtracts with the mean. With them, the outputs of a "
            f"batch norm, which are around 1, change by {bias_change:.0e} at most.",
            f"It takes {_billions(network.multiply_adds)} billion multiply-adds, "
            f"{_billions(network.multiply_adds_in_paper)} with the stride where the paper has it, "
            f"which are the published {_billions(network.published['multiply_adds'], 1)}.",
        ],
        claims=[
            _table_claim(networks),
            *map(_multiply_adds_claim, networks.values()),
            *_walk_claims(network),
            _bias_claim(usual),
            talk.check_bytes(network.parameters_with_bias),
            talk.check_shortcuts(network.parts),
            *size_claims,
            dropout_claim,
            talk.check_gradient(),
        ],
        publisher=PROTOCOL.authors,
    )


def _billions(count: float, digits: int = 2) -> str:
    return f"{count / _BILLION:.{digits}f}"


def _table_claim(networks: dict[str, Network]) -> Claim:
    """Agrees if the sizes after each stage, and the blocks in it, are the same in all networks."""
    sizes = published()["networks"]["output_size"]
    same = [
        n.output_sizes == sizes and n.blocks_per_stage == n.published["blocks"]
        for n in networks.values()
    ]
    return claim(
        f"outputs of {', '.join(map(str, sizes))} pixels a side, and the blocks of five networks",
        f"the same in {sum(same)} of {len(same)}",
        all(same),
    )


def _multiply_adds_claim(network: Network) -> Claim:
    """Agrees within 0.1 billion, the last digit of what is published."""
    said, counted = network.published["multiply_adds"], network.multiply_adds
    return claim(
        f"ResNet-{network.depth}: {_billions(said, 1)} billion multiply-adds",
        _billions(counted),
        abs(counted - said) < _TOLERANCE * _BILLION,
        f"{_billions(network.multiply_adds_in_paper)} with the stride where the paper has it; the "
        "talk's code has it where this project has",
    )


def _walk_claims(network: Network) -> list[Claim]:
    """Each agrees if the numbers are equal."""
    figures = published()["resnet152"]
    said = [part["times"] for part in figures["tensors"] if part["times"] > 1]
    repeats = [part.times for part in network.parts if part.times > 1]
    return [
        claim(
            f"after the first block of each stage, {', '.join(map(str, said))} equal ones",
            ", ".join(map(str, repeats)),
            repeats == said,
        ),
        claim(
            f"{figures['parameters_with_conv_bias']:,} parameters",
            f"{network.parameters_with_bias:,}",
            network.parameters_with_bias == figures["parameters_with_conv_bias"],
        ),
    ]


def _bias_claim(usual: Network) -> Claim:
    """Agrees if each convolution of the usual network has one."""
    biased = sum("bias" in layer.weights for layer in usual.convolutions)
    return claim(
        "each convolution has a bias, the 3x3 ones too",
        f"in the usual network {biased} of {len(usual.convolutions)} have one",
        biased == len(usual.convolutions),
        "batch norm, which follows, subtracts the mean and the bias with it",
    )


def _convolutions(network: Network, stage: int) -> str:
    """Of the last block of a stage: 1x1, 64; 3x3, 64; 1x1, 256."""
    last = network.blocks_per_stage[stage] - 1
    kernels = [
        layer.weights["kernel"]
        for layer in network.convolutions
        if layer.path[:3] == ("stages", stage, last)
    ]
    return "; ".join(f"{size}x{size}, {features}" for features, _, size, _ in kernels)


def _stage_table(networks: dict[str, Network]) -> Table:
    """The talk's table, with a block of each kind once."""
    kinds = {
        block: [n for n in networks.values() if MODELS[n.name][0] is block] for block in _KINDS
    }
    basic = kinds[BasicBlock][0]
    stem = basic.layers[0]
    features, _, size, _ = stem.weights["kernel"]
    stride = stem.input_shape[0] // stem.output_shape[0]
    first = f"{size}x{size}, {features}, stride {stride}"
    rows = [
        ["conv1", _square(basic.output_sizes[0]), *[first] * len(kinds), *["1"] * len(networks)]
    ]
    for stage, pixels in enumerate(basic.output_sizes[1:]):
        blocks = [str(network.blocks_per_stage[stage]) for network in networks.values()]
        convolutions = [_convolutions(alike[0], stage) for alike in kinds.values()]
        rows.append([f"conv{stage + 2}_x", _square(pixels), *convolutions, *blocks])
    titles = [f"{_KINDS[kind]} ({', '.join(n.depth for n in own)})" for kind, own in kinds.items()]
    return Table(
        "The talk's five networks: convolutions of a block, and how many blocks",
        ["layer", "output", *titles, *(network.depth for network in networks.values())],
        rows,
        "A 3x3 max pool with stride 2 stands before conv2_x; average pooling and the classifier "
        "stand at the end.",
    )


def _square(pixels: int) -> str:
    return f"{pixels}x{pixels}"


def _size_table(networks: dict[str, Network]) -> Table:
    columns: list[Column[Network]] = [
        Column("network", lambda n: f"ResNet-{n.depth}"),
        Column("parameters", lambda n: f"{n.parameters:,}"),
        Column("with convolution\nbiases", lambda n: f"{n.parameters_with_bias:,}"),
        Column("multiply-adds,\nbillion", lambda n: n.multiply_adds / _BILLION, 3),
        Column("as in the\npaper", lambda n: n.multiply_adds_in_paper / _BILLION, 3),
        Column(PROTOCOL.authors, lambda n: n.published["multiply_adds"] / _BILLION, 1),
    ]
    note = (
        "Multiply-adds: of the convolutions and the classifier for one image, products with "
        "padding included. As in the paper: bottlenecks with the stride on their first 1x1 "
        "convolution, where this project, torchvision and the talk's code have it on the 3x3; and "
        "basic blocks whose shortcuts pad channels with zeros (option A), where these have "
        "projections. The talk's figures are those of He et al., table 1, who call them FLOPs."
    )
    return make_table("What the networks cost", columns, list(networks.values()), note)


def _walk_table(network: Network) -> Table:
    """A row for each convolution with its batch norm, and for the classifier."""
    rows, total = [], 0
    for part in network.parts:
        weighted = [layer for layer in part.layers if layer.weights]
        for path, group in groupby(weighted, key=lambda layer: layer.path[:-1]):
            own = list(group)
            vectors = [shape for x in own for shape in x.weights.values() if len(shape) == 1]
            assert len(set(vectors)) == 1
            parameters = part.times * sum(layer.parameters for layer in own)
            total += parameters
            rows.append(
                [
                    f"{part.title}: {path[-1]}" if "block" in part.title else part.title,
                    str(list(own[0].weights["kernel"])),
                    f"{len(vectors)} x {list(vectors[0])}",
                    own[-1].torch_shape.replace("-1, ", ""),
                    str(part.times),
                    f"{parameters:,}",
                ]
            )
    rows.append(["all", "", "", "", "", f"{total:,}"])
    return Table(
        f"ResNet-{network.depth}, layer by layer",
        ["layer", "weight", "vectors", "output", "times", "parameters"],
        rows,
        "Shapes in PyTorch's order: weights [out, in, height, width], outputs [channels, height, "
        "width]. Vectors: the convolution's bias, batch norm's scale and shift; the classifier's "
        "bias. Parameters: of all equal blocks.",
    )


if __name__ == "__main__":
    run_command(main)
