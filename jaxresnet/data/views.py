"""Which part of a picture the network sees, as torchvision's transforms choose it."""

import math
from typing import NamedTuple, Protocol

# torchvision.transforms.RandomResizedCrop's defaults: of the area, and width over height.
CROP_AREA = (0.08, 1.0)
CROP_RATIO = (3 / 4, 4 / 3)
_TRIES = 10
# For evaluation the shorter side is resized to 256 where the network takes 224.
EVAL_SCALE = 256 / 224


class Box(NamedTuple):
    """Left, top, right and bottom edge, in pixels."""

    left: float
    top: float
    right: float
    bottom: float

    @property
    def width(self) -> float:
        return self.right - self.left

    @property
    def height(self) -> float:
        return self.bottom - self.top


class View(NamedTuple):
    """What becomes of a picture.

    Attributes:
      box: what is resized to a square; its edges may lie between pixels.
      window: the pixels that take part in it, a Box of whole numbers.
      flip: whether it is mirrored, left to right.
    """

    box: Box
    window: Box
    flip: bool = False


class Random(Protocol):
    """What draws from [0, 1), as numpy.random.Generator does."""

    def random(self) -> float: ...


def random_resized_crop(draw: Random, width: int, height: int) -> View:
    """torchvision's RandomResizedCrop, then RandomHorizontalFlip.

    A share of the area and the logarithm of a ratio of the sides are drawn until both sides fit,
    ten times at most, and then the place; if none fits, the largest centred crop with an allowed
    ratio is taken (Szegedy et al., 2014, as torchvision has it).
    """
    least, greatest = (math.log(ratio) for ratio in CROP_RATIO)
    for _ in range(_TRIES):
        area = width * height * (CROP_AREA[0] + (CROP_AREA[1] - CROP_AREA[0]) * draw.random())
        ratio = math.exp(least + (greatest - least) * draw.random())
        w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < w <= width and 0 < h <= height:
            top = int(draw.random() * (height - h + 1))
            left = int(draw.random() * (width - w + 1))
            break
    else:
        w = min(width, round(height * CROP_RATIO[1]))
        h = min(height, round(width / CROP_RATIO[0]))
        top, left = (height - h) // 2, (width - w) // 2
    box = Box(left, top, left + w, top + h)
    return View(box, box, flip=draw.random() < 0.5)


def centre_crop(width: int, height: int, size: int) -> View:
    """torchvision's Resize(size * 256 / 224), then CenterCrop(size), in one.

    Resizing the crop's part of the picture alone gives the same pixels, if what lies around it
    takes part as far as the filter reaches.
    """
    shorter = round(size * EVAL_SCALE)
    resized = [int(shorter * side / min(width, height)) for side in (width, height)]
    edges = []
    for side, new_side in zip((width, height), resized, strict=True):
        first = round((new_side - size) / 2)
        edges.append([edge * side / new_side for edge in (first, first + size)])
    (left, right), (top, bottom) = edges
    reach = [max(1, side / new) + 1 for side, new in zip((width, height), resized, strict=True)]
    window = Box(
        max(0, math.floor(left - reach[0])),
        max(0, math.floor(top - reach[1])),
        min(width, math.ceil(right + reach[0])),
        min(height, math.ceil(bottom + reach[1])),
    )
    return View(Box(left, top, right, bottom), window)
