"""Small runs on pictures in files."""

import json

import jax
import numpy as np
import pytest

from experiments import c1_training
from jaxresnet.data.augment import AUGMENTATIONS, plan_epoch
from tests.data.picture_copies import make_splits, write_folders
from tests.experiments.running import command, losses, saved_params

SMALL = [
    *("--data", "folders", "--augment", "resized-crop", "--image-size", "32", "--width", "4"),
    *("--batch-size", "4", "--epochs", "2", "--checkpoint-every", "1"),
]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Sharding info not provided")
def test_a_run_that_met_a_damaged_picture_goes_on_where_it_stopped(tmp_path, capsys):
    root = write_folders(tmp_path / "pictures", make_splits())
    arguments = [*SMALL, "--data-dir", root]
    assert command(c1_training.main, *arguments, "--out", tmp_path / "whole") == 0

    last = plan_epoch(AUGMENTATIONS["resized-crop"], seed=0, epoch=0, size=12).order[-1]
    picture = sorted((root / "train").glob("*/*"))[last]
    content = picture.read_bytes()
    picture.write_bytes(content[:200])
    assert command(c1_training.main, *arguments, "--out", tmp_path / "run") == 2
    error = capsys.readouterr().err
    assert f"{picture} cannot be decoded" in error
    assert "--skip-damaged N" in error
    assert "Traceback" not in error
    assert len(losses(tmp_path / "run")) == 2

    picture.write_bytes(content)
    others = ["--workers", "0", "--out", tmp_path / "run"]
    assert command(c1_training.main, *arguments, *others) == 0
    assert "continues after step 2" in capsys.readouterr().out
    assert losses(tmp_path / "run") == losses(tmp_path / "whole")
    found, expected = (saved_params(tmp_path / name) for name in ("run", "whole"))
    jax.tree.map(np.testing.assert_array_equal, found, expected)


@pytest.mark.filterwarnings("default:left out")
def test_damaged_pictures_are_named_before_the_training_and_left_out(tmp_path, capsys):
    root = write_folders(tmp_path / "pictures", make_splits())
    picture = next(root.glob("train/*/*"))
    picture.write_text("not found")
    arguments = [*SMALL, "--data-dir", root, "--epochs", "1", "--out", tmp_path / "run"]
    assert command(c1_training.main, *arguments, "--skip-damaged", "1") == 0
    assert f"warning: left out, since it cannot be decoded: {picture}" in capsys.readouterr().err
    assert len(losses(tmp_path / "run")) == 3  # of 4, 4 and 3 images
    report = (tmp_path / "run" / "report.md").read_text()
    environment = json.loads((tmp_path / "run" / "environment.json").read_text())
    assert environment["data_left_out"] == [str(picture)]
    assert "at most 1 damaged file left out" in report
    assert "pictures images" in report


def test_what_pictures_cannot_have_is_refused_before_the_training(tmp_path, capsys):
    root = write_folders(tmp_path / "pictures", make_splits())
    arguments = [*SMALL, "--data-dir", root, "--out", tmp_path / "run"]
    for option, value in (("--augment", "crop-flip"), ("--loader", "resident")):
        assert command(c1_training.main, *arguments, option, value) == 2
        error = capsys.readouterr().err
        assert f"{option} {value}" in error
        assert "Traceback" not in error
        assert not (tmp_path / "run").exists()


def test_options_about_files_are_refused_for_images_in_memory(tmp_path, capsys):
    arguments = ["--data", "synthetic", "--out", tmp_path / "run"]
    for option, value in (("--decode", "fast"), ("--skip-damaged", "3")):
        assert command(c1_training.main, *arguments, option, value) == 2
        error = capsys.readouterr().err
        assert f"{option} {value} is for images in files, but synthetic images are in" in error
        assert not (tmp_path / "run").exists()
