"""Which part of a picture is seen: torchvision's for the same draws."""

import itertools
import json
import math
from pathlib import Path
from random import Random

import numpy as np
import pytest
from PIL import Image
from scipy import stats

from jaxresnet.data.views import centre_crop, random_resized_crop

# Width, height, the crop's left, top, right and bottom edge, and whether it is mirrored, where
# random.Random(<row>) draws. Made by torchvision 0.29.1: the row's first draws scaled to the ranges
# that RandomResizedCrop.get_params asks of Tensor.uniform_ and torch.randint, the next one compared
# with a half, as RandomHorizontalFlip does.
CROPS = json.loads(Path(__file__).with_name("torchvision_crops.json").read_text())


def test_crops_are_those_that_torchvision_made():
    assert len(CROPS) == 200
    for seed, (width, height, *edges, flip) in enumerate(CROPS):
        view = random_resized_crop(Random(seed), width, height)
        assert (list(view.box), view.flip) == (edges, bool(flip)), f"of row {seed}"
        assert view.window == view.box


class Replay:
    """Gives numbers back in turn."""

    def __init__(self, draws: list[float]):
        self.draws = iter(draws)

    def random(self) -> float:
        return next(self.draws)


def test_crops_are_torchvisions_for_the_draws_that_it_makes(monkeypatch):
    transforms = pytest.importorskip("torchvision.transforms")
    import torch

    uniform, randint, draws = torch.Tensor.uniform_, torch.randint, []

    def recorded_uniform(tensor, low, high):
        drawn = uniform(tensor, low, high)
        draws.append((drawn.item() - float(low)) / (float(high) - float(low)))
        return drawn

    def recorded_randint(low, high, size):
        drawn = randint(low, high, size)
        draws.append((drawn.item() - low + 0.5) / (high - low))
        return drawn

    monkeypatch.setattr(torch.Tensor, "uniform_", recorded_uniform)
    monkeypatch.setattr(torch, "randint", recorded_randint)
    torch.manual_seed(0)
    crop = transforms.RandomResizedCrop(224)
    for size in ((500, 375), (375, 500), (32, 32), (3, 2), (2, 300), (2_000, 700), (300, 400)):
        for _ in range(50):
            draws.clear()
            top, left, height, width = crop.get_params(Image.new("L", size), crop.scale, crop.ratio)
            view = random_resized_crop(Replay([*draws, 0.5]), *size)
            assert view.box == (left, top, left + width, top + height)


def test_only_shapes_that_no_crop_fits_fall_back_to_the_centre():
    class Counting:
        count = 0

        def random(self) -> float:
            self.count += 1
            return 0.5

    for size, box in (((1_000, 30), (480, 0, 520, 30)), ((30, 1_000), (0, 480, 30, 520))):
        draw = Counting()
        assert random_resized_crop(draw, *size).box == box
        assert draw.count == 10 * 2 + 1
    draw = Counting()
    random_resized_crop(draw, 500, 375)
    assert draw.count == 2 + 2 + 1


def test_half_of_the_crops_are_mirrored_and_their_areas_are_uniform():
    draw = Random(0)
    views = [random_resized_crop(draw, 1_000, 1_000) for _ in range(4_000)]
    # Five standard deviations of 4,000 coins.
    assert abs(sum(view.flip for view in views) - 2_000) < 5 * math.sqrt(1_000)
    areas = np.array([view.box.width * view.box.height for view in views]) / 1_000**2
    assert areas.min() == pytest.approx(0.08, abs=0.01)
    assert areas.max() == pytest.approx(1, abs=0.02)
    # Up to three quarters every ratio fits, so that none is drawn again.
    assert stats.kstest(areas[areas < 0.75], stats.uniform(0.08, 0.67).cdf).pvalue > 1e-5


def test_evaluation_sees_the_centre_of_a_picture_whose_shorter_side_is_256():
    # 500 x 375 becomes 341 x 256, in which torchvision's crop begins at (58, 16).
    box, _, flip = centre_crop(500, 375, 224)
    assert box == pytest.approx((58 * 500 / 341, 16 * 375 / 256, 282 * 500 / 341, 240 * 375 / 256))
    assert not flip


@pytest.mark.parametrize("size", [1, 32, 224, 600])
def test_an_evaluation_window_lies_in_the_picture_and_around_its_box(size):
    for width, height in itertools.product((1, 7, 200, 3_001), repeat=2):
        box, window, _ = centre_crop(width, height, size)
        assert 0 <= window.left <= box.left < box.right <= window.right <= width
        assert 0 <= window.top <= box.top < box.bottom <= window.bottom <= height
        assert all(edge == int(edge) for edge in window)
