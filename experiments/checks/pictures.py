"""Whether images in files are seen as PIL and torchvision show them: each training image."""

import io
import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from experiments.checks.fidelity.parts import Comparison
from experiments.harness.command import make_console, run_command
from experiments.harness.environment import describe_environment
from experiments.harness.images import load_images
from experiments.harness.run_directory import check_directory, finish_run, open_run_directory
from experiments.harness.settings import DirectoryOptions, parse_settings
from jaxresnet import platform
from jaxresnet.data.pictures import EncodedImages, take_view
from jaxresnet.data.sources import ImageOptions, SourceOptions
from jaxresnet.data.views import Box, Random, View, centre_crop, random_resized_crop
from jaxresnet.errors import CheckFailed, UserError
from jaxresnet.options import options_of, unpublished
from jaxresnet.random import generator
from jaxresnet.report.document import Report, write_report
from jaxresnet.report.tables import Column, make_table

EXPERIMENT = "pictures"
# Evaluation views: PIL rounds between its two directions; which comes first depends on the shapes.
BOUNDS = {
    "crops and flips: share that is not torchvision's": 0.0,
    "training views: largest difference": 0.0,
    "training views: mean difference": 0.0,
    "evaluation views: largest difference": 2.0,
    "evaluation views: mean difference": 0.3,
    "fast decoding: largest difference": math.inf,
    "fast decoding: mean difference": math.inf,
}
_TOGETHER = 1024
_AREA, _RATIO = (0.08, 1.0), (3 / 4, 4 / 3)  # torchvision's scale and ratio
_NOTE = (
    "Pixels in levels of 255. Training and evaluation views beside those that PIL cuts out of the "
    "whole image and resizes, or the other way round; crops beside torchvision's algorithm with "
    "the same draws; fast decoding, which has no bound, beside exact decoding."
)
_COLUMNS = [
    Column[Comparison]("what was compared", lambda row: row.what),
    Column[Comparison]("bound", lambda row: f"≤ {row.bound:g}" if _is_bounded(row) else None),
    Column[Comparison]("found", lambda row: f"{row.value:.3g}"),
    Column[Comparison](
        "holds", lambda row: ("yes" if row.holds else "NO") if _is_bounded(row) else None
    ),
]


@dataclass(frozen=True)
class PicturesSettings:
    """Which images, and where results go."""

    source: SourceOptions = SourceOptions(data="imagenet")
    train_images: int | None = unpublished(None, affects="nothing", at_least=1)
    """A fixed choice of so many images. None: all of them."""
    output: DirectoryOptions = DirectoryOptions(out=Path("runs") / EXPERIMENT)


def main(arguments: list[str]) -> None:
    """Parses the command line, compares, and reports.

    Raises:
      CheckFailed: a comparison does not hold; the report is written nevertheless.
      UserError: the images are in memory or damaged, or an option makes no sense.
    """
    settings = parse_settings(PicturesSettings, f"checks.{EXPERIMENT}", __doc__, arguments)
    console, out = make_console(), settings.output.out
    assert out is not None
    check_directory(out, EXPERIMENT)
    options = ImageOptions(**asdict(settings.source), train_images=settings.train_images)
    dataset = load_images(options, console)
    images, size = dataset.train.images, dataset.train.image_size
    if not isinstance(images, EncodedImages):
        raise UserError(f"{dataset.title} are in memory: give --data imagenet or folders")
    identity = {"experiment": EXPERIMENT, "images": dataset.fingerprint(), "--image-size": size}
    shown, environment = {o.name: o.value for o in options_of(settings)}, describe_environment()
    with open_run_directory(out, identity, shown, environment, fresh=settings.output.fresh):
        found = np.array(list(_differences(images, size)))
        values = np.where(["largest" in what for what in BOUNDS], found.max(0), found.mean(0))
        rows = list(map(Comparison, BOUNDS, values.tolist(), BOUNDS.values()))
        seen = f"{len(images):,} {dataset.title}, {size}x{size} pixels; {platform.machine()}."
        table = make_table("Each training image's views", _COLUMNS, rows, _NOTE)
        title = "Are images in files seen as PIL and torchvision show them?"
        write_report(out, Report(title, seen, [table]), console)
        finish_run(out, {"images": len(images), **{row.what: row.value for row in rows}})
    if failed := [row.what for row in rows if not row.holds]:
        raise CheckFailed(f"beyond the bound: {'; '.join(failed)}")


def _is_bounded(row: Comparison) -> bool:
    return math.isfinite(row.bound)


def _differences(images: EncodedImages, size: int) -> Iterator[list[float]]:
    """Of each image, what BOUNDS names."""
    with ThreadPoolExecutor(platform.cpu_threads()) as pool:
        for start in range(0, len(images), _TOGETHER):
            together = range(start, min(start + _TOGETHER, len(images)))
            yield from pool.map(partial(_compare, images, size), together)


def _compare(images: EncodedImages, size: int, index: int) -> list[float]:
    image = Image.open(io.BytesIO(images.read(index))).convert("RGB")
    view = random_resized_crop(generator(EXPERIMENT, index=index), *image.size)
    expected = torchvision_crop(generator(EXPERIMENT, index=index), *image.size)
    exact, fast = (
        take_view(replace(images, fast=is_fast), index, size, lambda *_: view)
        for is_fast in (False, True)
    )
    cropped = _resized(image.crop(expected.box), size, size)
    pairs = [
        (exact, cropped[:, ::-1] if expected.flip else cropped),
        (take_view(images, index, size, centre_crop), _torchvision_centre(image, size)),
        (fast, exact),
    ]
    wrong = [np.abs(np.subtract(*pair, dtype=np.int16)) for pair in pairs]
    return [float(view != expected), *(float(f(each)) for each in wrong for f in (np.max, np.mean))]


def _resized(image: Image.Image, width: int, height: int) -> np.ndarray:
    return np.asarray(image.resize((width, height), Image.Resampling.BILINEAR))


def _torchvision_centre(image: Image.Image, size: int) -> np.ndarray:
    """Resize, which truncates the longer side, then CenterCrop, which rounds."""
    shorter = round(size * 256 / 224)
    width, height = (int(shorter * side / min(image.size)) for side in image.size)
    left, top = round((width - size) / 2), round((height - size) / 2)
    return _resized(image, width, height)[top : top + size, left : left + size]


def torchvision_crop(draw: Random, width: int, height: int) -> View:
    """RandomResizedCrop.get_params with its draws scaled from [0, 1), then RandomHorizontalFlip."""
    logarithms = np.log(_RATIO)
    for _ in range(10):
        target = height * width * np.interp(draw.random(), (0, 1), _AREA)
        ratio = np.exp(np.interp(draw.random(), (0, 1), logarithms))
        w, h = round(float(np.sqrt(target * ratio))), round(float(np.sqrt(target / ratio)))
        if 0 < w <= width and 0 < h <= height:
            top, left = (math.floor(draw.random() * n) for n in (height - h + 1, width - w + 1))
            break
    else:
        w, h = width, height
        if width / height < min(_RATIO):
            h = round(w / min(_RATIO))
        elif width / height > max(_RATIO):
            w = round(h * max(_RATIO))
        top, left = (height - h) // 2, (width - w) // 2
    box = Box(left, top, left + w, top + h)
    return View(box, box, draw.random() < 0.5)


if __name__ == "__main__":
    run_command(main)
