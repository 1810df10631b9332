"""Pixels of views: Pillow's, whichever file they come from; and files that are no clean JPEGs."""

import io
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from jaxresnet.data.pictures import take_view
from jaxresnet.data.tensorflow import import_tensorflow
from jaxresnet.data.views import Box, View, centre_crop, random_resized_crop
from jaxresnet.errors import UserError
from jaxresnet.random import generator
from tests.data.picture_copies import as_file, encode, resampled, smooth_image

JPEGS = {
    "all colours": encode(smooth_image(500, 375), subsampling="4:4:4", quality=95),
    "half of the colours": encode(smooth_image(375, 500), subsampling="4:2:2", quality=50),
    "a quarter of the colours": encode(smooth_image(501, 333), subsampling="4:2:0"),
    "progressive": encode(smooth_image(333, 501), progressive=True, quality=30),
    "progressive, all colours": encode(
        smooth_image(300, 300), progressive=True, subsampling="4:4:4"
    ),
    # As cameras that were held upright leave them, and as old ones do.
    "half of the rows' colours": resampled(
        encode(smooth_image(320, 320), subsampling="4:2:2"), 0x12, 160, 640
    ),
    "a quarter of the columns' colours": resampled(
        encode(smooth_image(320, 320), subsampling="4:2:0"), 0x41, 640, 160
    ),
    "stored as RGB": encode(smooth_image(300, 200), keep_rgb=True),
    "restart markers": encode(smooth_image(400, 300), restart_marker_blocks=7),
    "bytes after its end": encode(smooth_image(400, 300)) + bytes(40),
    "many bytes after its end": encode(smooth_image(400, 300)) + bytes(4_000),
    "wide": encode(smooth_image(1_200, 130)),
    "tall": encode(smooth_image(90, 900)),
    "smaller than the view": encode(smooth_image(37, 53)),
    "one pixel": encode(smooth_image(1, 1)),
}


def crops(count: int):
    """Functions that choose a training view."""
    for index in range(count):
        yield lambda w, h, _size, index=index: random_resized_crop(
            generator("test", index=index), w, h
        )


def pillow_crop(image: Image.Image, view: View, size: int) -> np.ndarray:
    """torchvision's resized_crop and hflip: the crop is cut out of the whole picture."""
    left, top, right, bottom = map(int, view.box)
    cropped = image.crop((left, top, right, bottom))
    resized = cropped.resize((size, size), Image.Resampling.BILINEAR)
    return np.asarray(resized)[:, ::-1] if view.flip else np.asarray(resized)


def pillow_centre(image: Image.Image, size: int) -> np.ndarray:
    """torchvision's Resize, which truncates the longer side, then CenterCrop, which rounds."""
    shorter = round(size * 256 / 224)
    width, height = (int(shorter * side / min(image.size)) for side in image.size)
    resized = image.resize((width, height), Image.Resampling.BILINEAR)
    left, top = round((width - size) / 2), round((height - size) / 2)
    return np.asarray(resized.crop((left, top, left + size, top + size)))


def assert_near(found: np.ndarray, expected: np.ndarray) -> None:
    """Pillow rounds between its two directions; which comes first depends on the shapes."""
    wrong = np.abs(found.astype(int) - expected)
    assert wrong.max() <= 2
    assert (wrong > 1).mean() < 1e-3
    assert wrong.mean() < 0.3


@pytest.mark.parametrize("size", [64, 160, 224, 288])
@pytest.mark.parametrize("kind", JPEGS)
def test_training_views_are_pillows_to_the_last_bit(kind, size, tmp_path):
    image = Image.open(io.BytesIO(JPEGS[kind]))
    for choose in crops(8):
        found = take_view(as_file(JPEGS[kind], tmp_path), 0, size, choose)
        expected = pillow_crop(image, choose(*image.size, size), size)
        np.testing.assert_array_equal(found, expected)
        assert (found.shape, found.dtype) == ((size, size, 3), np.uint8)


@pytest.mark.parametrize("size", [64, 160, 224, 288])
@pytest.mark.parametrize("kind", JPEGS)
def test_evaluation_views_are_what_resizing_the_whole_picture_gives(kind, size, tmp_path):
    found = take_view(as_file(JPEGS[kind], tmp_path), 0, size, centre_crop)
    assert_near(found, pillow_centre(Image.open(io.BytesIO(JPEGS[kind])), size))


def test_views_of_arrays_are_those_of_pictures(tmp_path):
    image = smooth_image(60, 60)
    in_file, in_memory = as_file(encode(image, "PNG"), tmp_path), np.asarray(image)[None]
    for choose in (*crops(5), centre_crop):
        found = take_view(in_memory, 0, 48, choose)
        np.testing.assert_array_equal(found, take_view(in_file, 0, 48, choose))


@pytest.mark.parametrize("size", [30, 60, 120, 224])  # most are read at 1/8, 1/4, 1/2 and 1
def test_fast_decoding_is_near_exact_decoding(size, tmp_path):
    image = smooth_image(40, 30).resize((600, 450), Image.Resampling.BICUBIC)
    exact = as_file(encode(image), tmp_path)
    fast, choices = replace(exact, fast=True), list(crops(20))
    views = [[take_view(images, 0, size, choose) for choose in choices] for images in (exact, fast)]
    wrong = np.diff(np.array(views, int), axis=0)
    assert 0 < np.abs(wrong).mean() < 1.5  # of 255 levels
    assert np.abs(wrong).mean(axis=(0, 2, 3, 4)).max() < 3  # of a view
    # Evaluation is exact all the same.
    centre = take_view(exact, 0, size, centre_crop)
    np.testing.assert_array_equal(take_view(fast, 0, size, centre_crop), centre)


@pytest.mark.parametrize(
    ("size", "scale"), [(56, 8), (57, 4), (112, 4), (113, 2), (225, 2), (226, 1), (900, 1)]
)
def test_fast_decoding_is_at_the_smallest_scale_that_has_enough_pixels(
    size, scale, tmp_path, monkeypatch
):
    raw_ops, decoded = import_tensorflow().raw_ops, []
    decode = raw_ops.DecodeAndCropJpeg

    def recorded(**options: Any) -> Any:
        decoded.append(decode(**options))
        return decoded[-1]

    monkeypatch.setattr(raw_ops, "DecodeAndCropJpeg", recorded)
    exact = as_file(encode(smooth_image(608, 450)), tmp_path)
    for images in (replace(exact, fast=True), exact):
        box = Box(0, 0, 608, 450)
        take_view(images, 0, size, lambda *_, box=box: View(box, box))
    assert [pixels.shape[1] for pixels in decoded] == [608 // scale, 608]
    assert [pixels.shape[0] for pixels in decoded] == [pytest.approx(450 / scale, abs=1), 450]


COLOURS = smooth_image(300, 200)
SEE_THROUGH = Image.merge("RGBA", (*COLOURS.split(), COLOURS.getchannel(0)))
DEEP_GREY = Image.fromarray(np.asarray(COLOURS.convert("L")).astype(np.uint16) * 257)
OTHERS = {
    "PNG": encode(COLOURS, "PNG"),
    "PNG with an alpha channel": encode(SEE_THROUGH, "PNG"),
    "PNG of a palette": encode(COLOURS.quantize(64), "PNG"),
    "grey PNG": encode(COLOURS.convert("L"), "PNG"),
    "grey PNG of 16 bits": encode(DEEP_GREY, "PNG"),
    "black and white PNG": encode(COLOURS.convert("1"), "PNG"),
    "grey JPEG": encode(COLOURS.convert("L")),
    "CMYK JPEG": encode(COLOURS.convert("CMYK")),
    "GIF": encode(COLOURS, "GIF"),
    "BMP": encode(COLOURS, "BMP"),
    "TIFF": encode(COLOURS, "TIFF"),
    "WebP": encode(COLOURS, "WEBP"),
}


@pytest.mark.parametrize("kind", OTHERS)
def test_what_is_no_plain_jpeg_is_seen_as_pillow_turns_it_into_rgb(kind, tmp_path):
    # Whatever it is called: ImageNet has a PNG named .JPEG, too.
    images, image = as_file(OTHERS[kind], tmp_path), Image.open(io.BytesIO(OTHERS[kind]))
    rgb = image.convert("RGB")
    for choose in crops(4):
        found = take_view(images, 0, 100, choose)
        np.testing.assert_array_equal(found, pillow_crop(rgb, choose(*rgb.size, 100), 100))
    assert_near(take_view(images, 0, 100, centre_crop), pillow_centre(rgb, 100))


JPEG = JPEGS["all colours"]
DAMAGED = {
    "cut near its end": JPEG[: len(JPEG) * 9 // 10],
    "cut in its head": JPEG[:100],
    "empty": b"",
    "text": b"404: not found\n",
    "PNG cut in the middle": OTHERS["PNG"][: len(OTHERS["PNG"]) // 2],
    "bad table": JPEG.replace(b"\xff\xc4", b"\xff\xc4\x00\x10\xff\xff", 1),
}


@pytest.mark.parametrize("kind", DAMAGED)
def test_a_damaged_file_is_named_with_what_to_do(kind, tmp_path):
    images = as_file(DAMAGED[kind], tmp_path)
    for choose in (*crops(12), centre_crop):  # whether they see what is missing or not
        with pytest.raises(UserError) as error:
            take_view(images, 0, 64, choose)
        message = str(error.value)
        assert message.startswith(f"{tmp_path / 'picture.JPEG'} cannot be decoded (")
        assert "--skip-damaged N" in message
        assert "\n" not in message


def test_a_file_that_is_gone_is_named(tmp_path):
    images = as_file(JPEG, tmp_path)
    (tmp_path / "picture.JPEG").unlink()
    with pytest.raises(UserError, match=r"picture\.JPEG .*No such file"):
        take_view(images, 0, 64, centre_crop)


def test_a_file_that_was_replaced_is_read_whole(tmp_path):
    listed = as_file(JPEG[:1_000], tmp_path)
    expected = take_view(as_file(JPEG, tmp_path), 0, 64, centre_crop)
    np.testing.assert_array_equal(take_view(listed, 0, 64, centre_crop), expected)


def test_what_pillow_makes_of_a_part_is_seen(tmp_path):
    """The end of the pixels is missing, but not that of the file: the rest is grey in both."""
    content = JPEG[: len(JPEG) // 2] + b"\xff\xd9"
    image = Image.open(io.BytesIO(content))
    for choose in crops(8):
        found = take_view(as_file(content, tmp_path), 0, 64, choose)
        np.testing.assert_array_equal(found, pillow_crop(image, choose(*image.size, 64), 64))
