"""The benchmark of the input pipelines: what it writes, and what it says to bad input."""

from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from experiments.bench import input as bench_input
from jaxresnet.data.augment import CROP_PADDING
from jaxresnet.data.loaders import LOADERS
from jaxresnet.data.pictures import EncodedImages, take_view
from jaxresnet.data.sources import ImageOptions, load_dataset
from jaxresnet.data.views import random_resized_crop
from jaxresnet.random import generator
from tests.bench.results import HAS_TORCH, check_outputs, check_spread, fastest, read_results
from tests.data.picture_copies import IMAGES, make_splits, write_folders
from tests.experiments.running import command

TINY = (
    *("--data", "synthetic", "--train-images", "70", "--batch-size", "32", "--rounds", "2"),
    *("--workers", "0", "1"),
)
WITH_WORKERS = [
    f"{loader}, workers {workers}"
    for loader, kind in LOADERS.items()
    if kind.has_workers
    for workers in (0, 1)
]
PYTORCH = ["PyTorch, workers 0", "PyTorch, workers 1"] if HAS_TORCH else []


@pytest.fixture(scope="module")
def directory(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("bench_input") / "run"
    assert command(bench_input.main, *TINY, "--out", path) == 0
    return path


def test_every_loader_feeds_whole_epochs(directory):
    check_outputs(directory, "input.png")
    contestants = {each["name"]: each for each in read_results(directory)["contestants"]}
    without_workers = [loader for loader, kind in LOADERS.items() if not kind.has_workers]
    assert set(contestants) == {*WITH_WORKERS, *without_workers, *PYTORCH}
    for contestant in contestants.values():
        assert [answer["images"] for answer in contestant["rounds"]] == [70, 70]


@pytest.mark.skipif(not HAS_TORCH, reason="PyTorch is not installed (extra: interop)")
def test_the_loaders_with_workers_are_compared_with_pytorch(directory):
    results = read_results(directory)
    contestants = {each["name"]: each for each in results["contestants"]}
    groups = ([contestants[name] for name in names] for names in (WITH_WORKERS, PYTORCH))
    best = [rate / rival for rate, rival in zip(*map(fastest, groups), strict=True)]
    check_spread(results["best_to_best"]["tfdata"], best)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory) -> Path:
    return write_folders(tmp_path_factory.mktemp("pictures"), make_splits())


@pytest.fixture(scope="module")
def of_pictures(pictures) -> Path:
    """A run on the training pictures, seen 32 pixels large."""
    path = pictures / "run"
    options = ("--data", "folders", "--data-dir", pictures, "--image-size", "32")
    options += ("--batch-size", "4", "--rounds", "2", "--workers", "1", "--out", path)
    assert command(bench_input.main, *options) == 0
    return path


def test_pictures_are_decoded_exactly_and_fast(of_pictures):
    check_outputs(of_pictures, "input.png")
    results = read_results(of_pictures)
    ours = [f"tfdata {decoding}, workers 1" for decoding in ("exact", "fast")]
    contestants = {each["name"]: each for each in results["contestants"]}
    assert set(contestants) | set(results["left_out"]) == {*ours, *PYTORCH[1:]}
    for contestant in contestants.values():
        assert [answer["images"] for answer in contestant["rounds"]] == [IMAGES["train"]] * 2


@pytest.mark.skipif(not HAS_TORCH, reason="PyTorch is not installed (extra: interop)")
def test_pictures_are_compared_with_torchvision_alone(of_pictures):
    results, report = read_results(of_pictures), (of_pictures / "report.md").read_text()
    if find_spec("torchvision"):
        assert set(results["best_to_best"]) == {"tfdata exact", "tfdata fast"}
    else:
        for name in PYTORCH[1:]:
            assert "torchvision is not installed" in results["left_out"][name]
            assert f"{name} is left out, since it failed: ModuleNotFoundError: torch" in report


def test_the_deviation_of_fast_decoding_is_reported(of_pictures, pictures):
    """Of the first epoch's views, image by image."""
    options = ImageOptions("folders", pictures)
    images = load_dataset(options, on_progress=lambda *_: None, warn=pytest.fail).train.images
    assert isinstance(images, EncodedImages)

    def view(images: EncodedImages, index: int) -> np.ndarray:
        draw = generator("view", 0, 0, index)
        return take_view(images, index, 32, lambda w, h, _: random_resized_crop(draw, w, h))

    fast = replace(images, fast=True)
    pairs = [(view(images, i), view(fast, i)) for i in range(len(images))]
    differences = np.abs([np.subtract(*pair, dtype=np.float64) for pair in pairs])
    deviation = {"mean": differences.mean(), "greatest": differences.max()}
    assert read_results(of_pictures)["deviation_of_fast"] == pytest.approx(deviation)
    expected = "by {mean:.2f} of 255 levels on average, {greatest:.0f} at most".format(**deviation)
    assert expected in (of_pictures / "report.md").read_text()


def test_the_originals_must_be_the_same_images(pictures, tmp_path, capsys):
    write_folders(tmp_path, make_splits())
    next(tmp_path.glob("train/*/*")).unlink()
    options = ("--data", "folders", "--data-dir", pictures, "--originals", tmp_path)
    assert command(bench_input.main, *options) == 2
    assert "hold different images" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--rounds", "0"), "--rounds must be at least 1"),
        (("--workers", "1", "1"), "--workers has a value twice: 1 1"),
        (("--workers", "-1"), "--workers must be at least 0"),
        (("--workers",), "--workers needs at least one number"),
        ((*TINY, "--batches-per-round", "4"), "has only 3 batches of 32"),
    ],
)
def test_bad_options_are_named(arguments, message, capsys):
    assert command(bench_input.main, *arguments) == 2
    assert message in capsys.readouterr().err


def test_a_bad_directory_is_refused_before_images_are_loaded(monkeypatch, capsys):
    monkeypatch.setattr(bench_input, "load_images", None)
    assert command(bench_input.main, "--out", Path(__file__).parent) == 2
    assert "holds files but no run" in capsys.readouterr().err


def test_the_transforms_are_torchvisions():
    torch = pytest.importorskip("torch")
    image_module = pytest.importorskip("PIL.Image")
    from experiments.bench.torch_input import transform_image

    mean, std = np.array([[0.5, 0.4, 0.3], [0.2, 0.25, 0.3]], np.float32)
    image = np.random.default_rng(0).integers(256, size=(32, 32, 3), dtype=np.uint8)
    torch.manual_seed(0)
    for _ in range(8):
        state = torch.get_rng_state()
        transformed = transform_image(image_module.fromarray(image), mean, std, CROP_PADDING)
        torch.set_rng_state(state)
        top, left = (int(torch.randint(0, 9, (1,))) for _ in range(2))
        crop = np.pad(image, ((4, 4), (4, 4), (0, 0)))[top : top + 32, left : left + 32]
        crop = crop[:, ::-1] if torch.rand(1) < 0.5 else crop
        expected = (crop.astype(np.float32) / np.float32(255) - mean) / std
        np.testing.assert_array_equal(transformed, expected.transpose(2, 0, 1))
