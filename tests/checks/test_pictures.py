"""The check of what is seen of images in files: what it finds, and what it reports."""

import json
from pathlib import Path
from random import Random

import pytest

from experiments.checks import pictures
from jaxresnet.data.views import View, random_resized_crop
from tests.data.picture_copies import IMAGES, make_splits, write_folders
from tests.data.test_views import CROPS
from tests.experiments.running import command, row


@pytest.fixture(autouse=True)
def _restore_warnings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("warnings.showwarning", lambda *_args, **_kwargs: None)


def check(directory: Path, *arguments: object) -> int:
    """Of small pictures, seen 48 pixels large."""
    options = ("--data", "folders", "--data-dir", directory / "data", "--image-size", 48)
    return command(pictures.main, *options, "--out", directory / "run", *arguments)


def test_its_crops_are_those_that_torchvision_made():
    for seed, (width, height, *edges, flip) in enumerate(CROPS):
        view = pictures.torchvision_crop(Random(seed), width, height)
        assert (list(view.box), view.flip) == (edges, bool(flip))


def test_every_comparison_is_reported_with_its_bound(tmp_path):
    write_folders(tmp_path / "data", make_splits())
    assert check(tmp_path) == 0
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["images"] == IMAGES["train"]
    report = (tmp_path / "run" / "report.md").read_text()
    for what, bound in pictures.BOUNDS.items():
        shown, holds = ("-", "-") if "fast" in what else (f"≤ {bound:g}", "yes")
        assert row(report, what) == [what, shown, f"{summary[what]:.3g}", holds]
        assert 0 <= summary[what] <= bound
    assert summary["fast decoding: largest difference"] > 0
    assert str(tmp_path) not in report


def test_a_shifted_crop_is_found(tmp_path, monkeypatch, capsys):
    def shifted(draw: Random, width: int, height: int) -> View:
        view = random_resized_crop(draw, width, height)
        box = view.box._replace(left=max(0, view.box.left - 1))
        return View(box, box, view.flip)

    write_folders(tmp_path / "data", make_splits())
    monkeypatch.setattr(pictures, "random_resized_crop", shifted)
    assert check(tmp_path) == 1
    error = capsys.readouterr().err
    for what in list(pictures.BOUNDS)[:3]:
        assert what in error
        assert row((tmp_path / "run" / "report.md").read_text(), what)[-1] == "NO"


def test_another_evaluation_view_is_found(tmp_path, monkeypatch, capsys):
    write_folders(tmp_path / "data", make_splits())
    drawn = lambda width, height, _size: random_resized_crop(Random(0), width, height)  # noqa: E731
    monkeypatch.setattr(pictures, "centre_crop", drawn)
    assert check(tmp_path) == 1
    assert "beyond the bound: evaluation views: largest difference" in capsys.readouterr().err


def test_images_in_memory_are_refused(tmp_path, capsys):
    assert command(pictures.main, "--data", "synthetic", "--out", tmp_path / "run") == 2
    assert "in memory: give --data imagenet or folders" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
