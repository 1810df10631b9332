"""R1: the talk's networks, counted."""

import json
import re
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from experiments import r1_parameters, report
from experiments.harness import talk
from experiments.harness.counted_network import count_network
from jaxresnet.models.resnet import MODELS
from tests.experiments.running import command, table_rows


@pytest.fixture(scope="module")
def directory(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("r1") / "r1_parameters"
    r1_parameters.main(["--out", str(path)])
    return path


def rows(directory: Path, title: str) -> list[list[str]]:
    """The cells of the table whose title begins so."""
    text = (directory / "report.md").read_text()
    table = re.search(rf"^### {re.escape(title)}.*\n\n((?:\|.*\n)+)", text, re.MULTILINE)
    assert table
    return table_rows(table[1])[2:]


def test_the_counts_are_those_of_the_literature(directory):
    networks = json.loads((directory / "summary.json").read_text())["networks"]
    resnet152 = networks["resnet152"]
    assert resnet152["parameters_with_bias"] == 60_268_520
    assert resnet152["parameters"] == 60_192_808
    assert [networks[name]["parameters"] for name in networks] == [
        11_689_512, 21_797_672, 25_557_032, 44_549_160, 60_192_808  # torchvision's
    ]  # fmt: skip
    # He et al., table 1, but for ResNet-50, of which 3.8 is published.
    in_paper = [networks[name]["multiply_adds_in_paper"] / 1e9 for name in networks]
    assert [round(count, 1) for count in in_paper] == [1.8, 3.6, 3.9, 7.6, 11.3]


def test_resnet152_is_walked_through_as_in_the_talk(directory):
    walk = rows(directory, "ResNet-152, layer by layer")
    assert walk[0] == ["conv1", "[64, 3, 7, 7]", "3 x [64]", "[64, 112, 112]", "1", "9,600"]
    repeats = {row[0]: row[4] for row in walk if "other blocks: conv2" in row[0]}
    assert list(repeats.values()) == ["2", "7", "35", "2"]
    by_layer = {row[0]: row for row in walk}
    assert by_layer["conv3_x, shortcut"][1:4] == ["[512, 256, 1, 1]", "3 x [512]", "[512, 28, 28]"]
    assert by_layer["conv4_x, other blocks: conv2"][1] == "[256, 256, 3, 3]"
    assert by_layer["classifier"][1:] == ["[1000, 2048]", "1 x [1000]", "[1000]", "1", "2,049,000"]
    counts = [int(row[5].replace(",", "")) for row in walk]
    assert sum(counts[:-1]) == counts[-1] == 60_268_520


def test_each_claim_of_the_talk_has_its_verdict(directory):
    claims = rows(directory, "What was published, and what this run says")
    verdicts = {said: (here, verdict.partition(":")[0]) for said, here, verdict in claims}
    assert verdicts["60,268,520 parameters"] == ("60,268,520", "yes")
    assert verdicts["ResNet-34: 3.6 billion multiply-adds"] == ("3.66", "yes")
    assert verdicts["ResNet-152: 11.3 billion multiply-adds"] == ("11.51", "no")
    (repeated,) = (said for said in verdicts if said.endswith("2, 7, 35, 2 equal ones"))
    assert verdicts[repeated] == ("2, 7, 35, 2", "yes")
    here, verdict = verdicts["each parameter uses around 4 KiB"]
    assert here.startswith("4 bytes: three copies take 689.72 MiB")
    assert verdict == "no"
    (padded,) = (said for said in verdicts if said.startswith("without padding n - 2 (k - 1)"))
    assert verdicts[padded] == ("3", "no")  # 5 - 3 + 1


def test_the_claim_on_biases_is_about_the_usual_network(directory):
    said = "each convolution has a bias, the 3x3 ones too"
    claims = rows(directory, "What was published, and what this run says")
    (row,) = (row for row in claims if row[0] == said)
    assert row[1] == "in the usual network 0 of 155 have one"
    assert row[2].startswith("no: ")
    networks = {name: count_network(name) for name in MODELS}
    report = r1_parameters.report(networks, usual=networks["resnet152"])
    (biased,) = (claim for claim in report.claims if claim.published == said)
    assert (biased.here, biased.agrees) == ("in the usual network 155 of 155 have one", "yes")


def test_the_gradient_of_the_first_example_is_that_of_finite_differences():
    def loss(x: float, y: float, z: float) -> float:
        return (x * 1 + y * 9 + z - 4) ** 2

    point, step = np.array([3.0, 2.0, -5.0]), 1e-6
    slopes = [
        (loss(*(point + step * axis)) - loss(*(point - step * axis))) / (2 * step)
        for axis in np.eye(3)
    ]
    expected = ", ".join(f"{slope:.0f}" for slope in slopes)
    assert talk.check_gradient().here == expected == "24, 216, 24"


def test_sizes_are_those_of_numpys_convolution():
    table, _ = talk.check_output_sizes()
    for name, size, formula, said, *_ in table.rows:
        kernel, _, pixels = name.partition(" on ")
        n, k = (int(text.partition("x")[0]) for text in (pixels, kernel))
        assert int(size) == int(formula) == len(np.convolve(np.ones(n), np.ones(k), "valid"))
        assert int(said) < int(size)


def test_dropout_keeps_the_mean_by_either_rule():
    table, claim = talk.check_dropout()
    assert claim.agrees == "yes"
    for rate, *means in table.rows:
        training, testing, here_training, here_testing = map(float, means)
        assert testing == pytest.approx(1 - float(rate))
        assert training == pytest.approx(testing, rel=0.01)
        assert here_training == pytest.approx(here_testing, rel=0.01)


def test_a_rule_that_loses_the_mean_would_not_agree(monkeypatch):
    monkeypatch.setattr(talk, "dropout", lambda x, rate, key: jnp.ones_like(x))
    assert talk.check_dropout()[1].agrees == "no"


def test_the_bias_is_lost_in_batch_norm_and_not_in_the_parameters():
    assert 0 < talk.measure_bias() < 1e-5
    network = count_network("resnet18")
    assert network.biases == 64 * 5 + 5 * (128 + 256 + 512)
    usual = count_network("resnet18", conv_bias=False)
    assert usual.biases == 0
    assert network.parameters == usual.parameters == usual.parameters_with_bias


def test_the_full_report_has_a_part_of_the_talk(directory, tmp_path):
    assert command(report.main, "--runs", directory.parent, "--out", tmp_path) == 0
    text = (tmp_path / "report.md").read_text()
    assert "\n# ResNet-152 on ImageNet\n\nA talk, " in text
    assert "\n# ResNet-18 on CIFAR-10\n" not in text
    assert "| the talk found | this run found |" in text
    assert "| [R1](#r1) | 60,268,520 parameters | 60,268,520 | yes |" in text
    assert '<a id="r1"></a>' in text
    assert "the labs found" not in text + (directory / "report.md").read_text()
