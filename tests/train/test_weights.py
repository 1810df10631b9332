"""Weight files and directories: what is written is read back bitwise, what is damaged is named."""

from pathlib import Path

import jax
import numpy as np
import pytest
from flax import nnx
from safetensors.numpy import load_file, save_file

from jaxresnet.errors import UserError
from jaxresnet.models.resnet import ModelOptions, create_model
from jaxresnet.models.torch_names import CONVENTIONS, Weights, to_torch, weights_of
from jaxresnet.train.weights import load_model, load_weights, write_weights


@pytest.fixture
def weights() -> Weights:
    """Of a thin ResNet-18; PyTorch's counters stand at 5."""
    model = create_model("resnet18", width=4, conv_bias=True, rngs=nnx.Rngs(3))
    return weights_of(model)._replace(batches=5)


@pytest.mark.parametrize("name", ["weights.safetensors", "weights"])
@pytest.mark.parametrize("names", CONVENTIONS)
def test_what_is_written_is_read_back(weights, name, names, tmp_path):
    path = tmp_path / "new" / name
    write_weights(path, weights, names)
    options, found = load_model(path)
    assert options["conv_bias"]
    assert options["width"] == 4
    jax.tree.map(np.testing.assert_array_equal, found, weights)


def test_a_network_without_norm_travels_too(tmp_path):
    bare = weights_of(create_model("resnet18", width=4, norm="none", rngs=nnx.Rngs(0)))
    write_weights(tmp_path / "weights", bare, "torchvision")
    options, found = load_model(tmp_path / "weights")
    assert options["norm"] == "none"
    jax.tree.map(np.testing.assert_array_equal, found, bare)


def test_safetensors_hold_pytorchs_tensors(weights, tmp_path):
    write_weights(tmp_path / "a.safetensors", weights, "kuangliu")
    tensors = load_file(tmp_path / "a.safetensors")
    assert tensors["linear.weight"].shape == (10, 32)
    assert tensors["bn1.num_batches_tracked"].shape == ()
    assert tensors["bn1.num_batches_tracked"] == 5


def test_a_destination_that_cannot_be_written_is_named(weights, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"file/a\.safetensors cannot be written"):
        write_weights(tmp_path / "file" / "a.safetensors", weights, "torchvision")


def test_files_are_not_overwritten(weights, tmp_path):
    (tmp_path / "a.safetensors").touch()
    with pytest.raises(UserError, match=r"a\.safetensors exists"):
        write_weights(tmp_path / "a.safetensors", weights, "torchvision")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("missing.safetensors", "does not exist; it should be a .safetensors file"),
        ("empty.safetensors", "cannot be read as a .safetensors file"),
        ("weights.npz", "is no weight file; it should be"),
        ("folder", "holds no weights"),
    ],
)
def test_what_cannot_be_read_is_named(name, message, tmp_path):
    path = tmp_path / name
    if name == "folder":
        path.mkdir()
    elif not name.startswith("missing"):
        path.touch()
    with pytest.raises(UserError, match=message) as raised:
        load_model(path)
    assert name in str(raised.value)


def test_a_damaged_directory_is_noticed(weights, tmp_path):
    directory = tmp_path / "weights"
    write_weights(directory, weights, "torchvision")
    (data,) = (path for path in (directory / "params" / "d").iterdir() if path.is_file())
    content = bytearray(data.read_bytes())
    content[len(content) // 2] ^= 1
    data.write_bytes(content)
    with pytest.raises(UserError, match="damaged"):
        load_model(directory)


def test_errors_name_the_file_and_the_tensors(weights, tmp_path):
    path = tmp_path / "a.safetensors"
    write_weights(path, weights, "torchvision")
    wider = ModelOptions(width=8)
    with pytest.raises(UserError) as raised:
        load_weights(path, wider, like=weights_of(wider.create(10, seed=0)))
    message = str(raised.value)
    assert message.startswith(f"{path}: the weights do not fit the model")
    assert "unexpected: conv1.bias" in message
    assert "conv1.weight (4, 3, 3, 3) instead of (8, 3, 3, 3)" in message
    assert message.endswith("\nto use these weights, add --conv-bias, set --width 4")


def test_options_are_not_blamed_for_what_they_cannot_mend(weights, tmp_path):
    path, model = tmp_path / "a.safetensors", ModelOptions(width=4, conv_bias=True)
    write_weights(path, weights, "torchvision")
    with pytest.raises(UserError, match=r"fc\.bias \(10,\) instead of \(7,\)$"):
        load_weights(path, model, like=weights_of(model.create(7, seed=0)))
    save_file({"features.0.weight": np.zeros(3)}, path)
    with pytest.raises(UserError, match=r"1 unexpected: features\.0\.weight$"):
        load_weights(path, model, like=weights)


def test_pytorch_loads_what_is_written_and_the_other_way(weights, tmp_path):
    torch = pytest.importorskip("torch", reason="compares with PyTorch")
    from experiments.pytorch.resnet import create_torch_model, numpy_tensors

    for names in ("torchvision", "kuangliu"):
        path = tmp_path / f"{names}.pth"
        write_weights(path, weights, names)
        network = create_torch_model("resnet18", width=4, conv_bias=True, names=names)
        network.load_state_dict(torch.load(path), strict=True)
        for name, tensor in numpy_tensors(network).items():
            np.testing.assert_array_equal(tensor, to_torch(weights, names)[name])
        assert list(network.state_dict()) == list(to_torch(weights, names))
        torch.save(network.state_dict(), tmp_path / "back.pth")
        _, found = load_model(tmp_path / "back.pth")
        jax.tree.map(np.testing.assert_array_equal, found, weights)


def test_training_scripts_checkpoints_are_unwrapped(weights, tmp_path):
    torch = pytest.importorskip("torch", reason="compares with PyTorch")
    tensors = {f"module.{k}": torch.from_numpy(t) for k, t in to_torch(weights, "kuangliu").items()}
    torch.save({"net": tensors, "acc": 91.5, "epoch": 7}, tmp_path / "ckpt.pth")
    _, found = load_model(tmp_path / "ckpt.pth")
    jax.tree.map(np.testing.assert_array_equal, found, weights)
    torch.save([1, 2], tmp_path / "list.pth")
    (tmp_path / "junk.pth").write_text("hello")
    for name, message in {"list.pth": "holds no state dict", "junk.pth": "cannot be read"}.items():
        with pytest.raises(UserError, match=message):
            load_model(tmp_path / name)


def test_bfloat16_state_dicts_are_widened(weights, tmp_path):
    torch = pytest.importorskip("torch", reason="compares with PyTorch")
    tensors = {name: torch.from_numpy(t) for name, t in to_torch(weights).items()}
    halves = {n: t.bfloat16() if t.is_floating_point() else t for n, t in tensors.items()}
    torch.save(halves, tmp_path / "half.pt")
    _, found = load_model(Path(tmp_path / "half.pt"))
    expected = halves["fc.weight"].float().numpy().T
    np.testing.assert_array_equal(found.params["classifier"]["kernel"], expected)
