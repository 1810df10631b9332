"""The network of the ResNet-152 talk, whose convolutions have biases, against PyTorch's."""

import numpy as np
import pytest
from flax import nnx

pytest.importorskip("torch", reason="compares with PyTorch")

import torch

from experiments import convert_weights
from experiments.checks.fidelity.layers import differences, draw, run_jax, run_torch
from experiments.checks.fidelity.parts import worst
from experiments.harness.published import published
from experiments.pytorch.resnet import numpy_tensors
from jaxresnet.models.resnet import MODELS, Bottleneck, create_model
from jaxresnet.models.torch_names import to_torch
from jaxresnet.train.weights import load_model, write_weights
from tests.experiments.running import command
from tests.models.talk import TalkResNet, talk_resnet152

BLOCKS = (1, 2, 1, 1)


@pytest.fixture
def network(monkeypatch) -> TalkResNet:
    """A thin one of few blocks, none of whose arrays are alike."""
    monkeypatch.setitem(MODELS, "few-blocks", (Bottleneck, BLOCKS))
    torch.manual_seed(0)
    network = TalkResNet(BLOCKS, 3, num_classes=7, channels=4)
    for tensor in network.state_dict().values():
        if tensor.ndim == 1:
            torch.nn.init.uniform_(tensor, 0.5, 1.5)
    return network


@pytest.mark.parametrize("train", [False, True])
def test_logits_gradients_and_statistics_are_pytorchs(network, train, tmp_path):
    torch.save(network.state_dict(), tmp_path / "resnet.pth")
    options, weights = load_model(tmp_path / "resnet.pth")
    assert options["conv_bias"]
    model = create_model(**options, dtype=np.float64, rngs=nnx.Rngs(0))
    images = draw((3, 64, 64, 3), "float64")
    here = run_jax(model, weights, images, lambda w: to_torch(w, "talk"), train=train)
    pytorch = run_torch(network.train(train), images)
    assert worst(differences(here, pytorch).values()) < 1e-8


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_the_talks_own_lines_load_what_is_written(network, suffix, tmp_path):
    first, file = tmp_path / "first.pth", tmp_path / "resnet.pth"
    torch.save(network.state_dict(), first)
    kept = tmp_path / f"kept{suffix}"
    assert command(convert_weights.main, first, kept) == 0
    assert command(convert_weights.main, kept, file, "--names", "talk") == 0
    again = TalkResNet(BLOCKS, 3, num_classes=7, channels=4)
    again.load_state_dict(torch.load(file))
    tensors = numpy_tensors(again)
    assert list(tensors) == list(network.state_dict())
    for name, tensor in numpy_tensors(network).items():
        np.testing.assert_array_equal(tensors[name], tensor)


def test_a_file_of_resnet152_takes_what_the_talk_says(tmp_path):
    torch.save(talk_resnet152().state_dict(), tmp_path / "talk.pth")
    options, weights = load_model(tmp_path / "talk.pth")
    expected = {"name": "resnet152", "stem": "imagenet", "num_classes": 1000, "conv_bias": True}
    assert options.items() >= expected.items()
    for name in ("own.pth", "own.safetensors"):
        write_weights(tmp_path / name, weights, "talk")
    for path in tmp_path.iterdir():
        mebibytes = path.stat().st_size / 2**20
        assert round(mebibytes) == published()["resnet152"]["checkpoint_mib"]
