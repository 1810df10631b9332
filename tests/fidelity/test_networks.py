"""Whole networks against PyTorch: a thin one of each kind."""

import pytest

pytest.importorskip("torch", reason="compares with PyTorch")

from experiments.fidelity.networks import compare_network, measure_conditioning
from experiments.fidelity.passes import Architecture


@pytest.mark.parametrize(
    "architecture",
    [
        Architecture("resnet18", width=8),
        pytest.param(
            Architecture("resnet18", "imagenet", conv_bias=True, width=8), marks=pytest.mark.slow
        ),
        Architecture("resnet18", norm="none", conv_bias=True, width=8),
        pytest.param(
            Architecture("resnet34", "imagenet", norm="none", width=8), marks=pytest.mark.slow
        ),
        pytest.param(
            Architecture("resnet50", "imagenet", conv_bias=True, width=8), marks=pytest.mark.slow
        ),
        pytest.param(
            Architecture("resnet152", "imagenet", norm="none", conv_bias=True, width=8),
            marks=pytest.mark.slow,
        ),
    ],
    ids=lambda architecture: architecture.words,
)
def test_logits_gradients_and_statistics_are_pytorchs(architecture):
    comparisons = compare_network(architecture)
    assert len(comparisons) >= 2
    assert [comparison for comparison in comparisons if not comparison.holds] == []


def test_float32_is_no_further_from_the_exact_gradients_than_pytorchs():
    found = measure_conditioning(Architecture("resnet18", width=8), batch=4)
    assert found.here_to_float64 < 3 * found.torch_to_float64
