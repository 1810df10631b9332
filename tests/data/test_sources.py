"""Which images a run gets: sources, the fall-back, smaller splits, TensorFlow's absence."""

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from jaxresnet.data import cifar, sources
from jaxresnet.data.dataset import Dataset
from jaxresnet.data.sources import SOURCES, ImageOptions, load_dataset
from jaxresnet.data.tensorflow import import_tfds
from jaxresnet.errors import UserError
from jaxresnet.options import replace_options
from tests.data.cifar_copies import SETS, SMALL, write

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:tensorflow_datasets")


@pytest.fixture(autouse=True)
def _small_and_offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A small CIFAR-10, no usual directory, and a network that cannot be reached."""
    for name, small in SETS.items():
        monkeypatch.setitem(sources.SOURCES, name, small)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "usual"))
    monkeypatch.setattr(cifar, "_HOMEPAGE", "http://127.0.0.1:9/")


def load(images: ImageOptions, warn: Callable[[str], None] = pytest.fail) -> Dataset:
    return load_dataset(images, on_progress=lambda done, total: None, warn=warn)


def test_auto_falls_back_to_synthetic_images_and_says_so():
    messages: list[str] = []
    assert load(ImageOptions("auto"), warn=messages.append).name == "synthetic"
    assert [m.splitlines()[-1] for m in messages] == ["using synthetic images instead"]


def test_cifar10_never_falls_back_and_names_three_ways():
    with pytest.raises(UserError, match=r"three ways(.|\n)*1\.(.|\n)*2\.(.|\n)*3\.") as error:
        load(ImageOptions("cifar10"))
    assert "--data synthetic" in str(error.value)


def test_auto_with_a_directory_never_falls_back(tmp_path):
    with pytest.raises(UserError, match="does not exist"):
        load(ImageOptions("auto", tmp_path / "missing"))


def test_the_usual_directory_is_used_without_being_named(tmp_path):
    write("TFDS", tmp_path / "usual")
    assert load(ImageOptions("auto")).name == "cifar10"


def test_the_built_in_images_are_in_no_directory(tmp_path):
    with pytest.raises(UserError, match=r"--data-dir .* --data is synthetic"):
        ImageOptions("synthetic", tmp_path).check()


def write_copy(name: str, root: Path) -> Path | None:
    """Small images in class folders, where the source is in a directory."""
    if name == "synthetic":
        return None
    cifar = SETS.get(name, SMALL)
    if name == "imagenet":
        synsets = import_tfds().builder("imagenet2012").info.features["label"].names
        cifar = replace(cifar, class_names=tuple(synsets[:10]))
    return write("class folders", root, cifar=cifar)


@pytest.mark.parametrize("name", SOURCES)
def test_smaller_splits_are_fixed_mixtures(name, tmp_path):
    root = write_copy(name, tmp_path)
    first, again = (
        load(ImageOptions(name, root, train_images=50, eval_images=10)) for _ in range(2)
    )
    assert (first.name, len(first.train), len(first.test)) == (name, 50, 10)
    assert len(set(first.train.labels.tolist())) > 5
    assert first.fingerprint() == again.fingerprint()


@pytest.mark.parametrize("name", ["auto", "cifar10", "synthetic"])
@pytest.mark.parametrize(("option", "value"), [("decode", "fast"), ("skip_damaged", 1)])
def test_options_about_decoding_are_for_images_in_files(name, option, value, monkeypatch):
    monkeypatch.setattr(type(SMALL), "load", lambda *_: pytest.fail("loaded"))
    flag = f"--{option.replace('_', '-')}"
    title = SOURCES["cifar10" if name == "auto" else name].title
    with pytest.raises(UserError, match=f"^{flag} {value} is .*, but {title} are in memory: leave"):
        load(replace_options(ImageOptions(name), **{option: value}))


@pytest.mark.parametrize("option", ["train_images", "eval_images"])
def test_more_images_than_there_are_are_refused(option, tmp_path):
    root = write("class folders", tmp_path)
    flag = f"--{option.replace('_', '-')}"
    with pytest.raises(UserError, match=f"{flag} is 101, but .* only"):
        load(replace_options(ImageOptions("cifar10", root), **{option: 101}))
    with pytest.raises(UserError, match=f"{flag} is 100,001, but at most 100,000"):
        load(replace_options(ImageOptions("synthetic"), **{option: 100_001}))


@pytest.mark.parametrize("name", SOURCES)
def test_normalisation_is_exact_to_the_last_bit(name):
    values = np.arange(256, dtype=np.uint8)
    images = np.stack([values, values[::-1], np.roll(values, 7)], -1).reshape(1, 16, 16, 3)
    dataset = replace(
        load(ImageOptions("synthetic", train_images=1, eval_images=1)), source=SOURCES[name]
    )
    # torchvision's ToTensor and Normalize: each operation rounded to float32 by itself.
    mean, std = (np.asarray(x, np.float32) for x in (dataset.source.mean, dataset.source.std))
    expected = (images.astype(np.float32) / np.float32(255) - mean) / std
    result = dataset.normalise(images)
    assert result.dtype == np.float32
    np.testing.assert_array_equal(result, expected)


_WITHOUT_TENSORFLOW = """
import sys
sys.modules["tensorflow"] = sys.modules["tensorflow_datasets"] = None
from pathlib import Path
from jaxresnet.data.augment import AUGMENTATIONS
from jaxresnet.data.loaders import LoaderOptions
from jaxresnet.errors import UserError
from tests.data.cifar_copies import SMALL

def load(layout):
    directory = Path(sys.argv[1], layout)
    return SMALL.load(directory, (None, None), lambda done, total: None).train

def batch(loader):
    split, augmentation = load("python batches"), AUGMENTATIONS["crop-flip"]
    loader = LoaderOptions(loader=loader).create(split, augmentation, 8, seed=0)
    return loader.read(*next(loader.epoch(0))).images.shape

print(len(load("python batches")), len(load("class folders")), batch("resident"))
for needs_tensorflow in (lambda: load("TFDS"), lambda: batch("tfdata")):
    try:
        needs_tensorflow()
    except UserError as error:
        print(error)
"""


def test_tensorflow_is_needed_for_tfds_and_the_tfdata_loader_alone(tmp_path):
    for layout in ("TFDS", "python batches", "class folders"):
        write(layout, tmp_path / layout)
    command = [sys.executable, "-c", _WITHOUT_TENSORFLOW, str(tmp_path)]
    root = Path(__file__).parents[2]
    result = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    works, *errors = result.stdout.splitlines()
    assert works == "100 100 (8, 32, 32, 3)"
    assert len(errors) == 2
    for part in ("tensorflow is not installed", "--loader resident", "install tensorflow-cpu"):
        assert all(part in error for error in errors)
