"""Pictures of any size, in files or in memory: read when needed, and only as much as is seen.

A JPEG is decoded no further than its view. Resizing is Pillow's antialiased bilinear filter, as in
torchvision; what is no plain JPEG is decoded by Pillow as well.
"""

import hashlib
import io
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError

from jaxresnet import platform
from jaxresnet.data.tensorflow import import_tensorflow
from jaxresnet.data.views import Box, View
from jaxresnet.errors import UserError, first_line

_END_OF_JPEG = b"\xff\xd9"
_TRAILER = 64  # bytes: a few files have some of another kind after their end
_MARGIN = 2
_CHUNK = 100  # images that a thread looks through at a time
_RATIOS = (8, 4, 2, 1)  # at which JPEGs are decoded


@dataclass(frozen=True, eq=False)
class EncodedImages:
    """Images in files, as a sequence; indexing with an array of indices chooses some.

    Attributes:
      root: the directory that names are relative to.
      names: (n,) bytes, of files.
      offsets, lengths: (n,) int64, in bytes, of an image in its file of many; one at 0 is all of
        its file, which had that length when it was listed.
      fast: whether training views are decoded at a reduced scale where that has enough pixels,
        and resized without antialiasing.
    """

    root: Path
    names: np.ndarray
    offsets: np.ndarray
    lengths: np.ndarray
    fast: bool = field(default=False, kw_only=True)

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, chosen: np.ndarray) -> "EncodedImages":
        parts = (self.names[chosen], self.offsets[chosen], self.lengths[chosen])
        return EncodedImages(self.root, *parts, fast=self.fast)

    def name(self, index: int) -> str:
        """For messages: the file's path, and the place of the image in a file of many."""
        path = self.root / os.fsdecode(self.names[index])
        offset = self.offsets[index]
        return f"{path} at byte {offset:,}" if offset else str(path)

    def read(self, index: int) -> bytes:
        path = self.root / os.fsdecode(self.names[index])
        # Workers would wait for each other at each of the many calls of Python's file objects.
        file = os.open(path, os.O_RDONLY)
        try:
            length = self.lengths[index] if self.offsets[index] else os.fstat(file).st_size
            return os.pread(file, length, self.offsets[index])
        finally:
            os.close(file)

    def digest(self) -> bytes:
        """SHA-256 over names and lengths, which stand for the pixels."""
        digest = hashlib.sha256()
        for name, length in zip(self.names.tolist(), self.lengths.tolist(), strict=True):
            digest.update(b"%b\0%d\0" % (name, length))
        return digest.digest()


class DamagedImage(UserError):
    """A file that was read, but cannot be decoded."""


Images = np.ndarray | EncodedImages  # in memory: (n, height, width, 3) uint8


def take_view(
    images: Images, index: int, size: int, choose: Callable[[int, int, int], View]
) -> np.ndarray:
    """A view of an image, (size, size, 3) uint8. choose: (width, height, size) -> the view.

    Raises:
      DamagedImage: the file is damaged, or no image.
      UserError: the file cannot be read, or a library is missing.
    """
    if isinstance(images, np.ndarray):
        image = Image.fromarray(images[index])
        return _resize(image, choose(*image.size, size), size)
    with _naming(images, index):
        data = images.read(index)
        image = Image.open(io.BytesIO(data))
        view = choose(*image.size, size)
        if not _is_plain_jpeg(image, data):
            return _resize(image.convert("RGB"), view, size)
        if images.fast and view.box == view.window:
            pixels = _decode_fast(data, view.window, size)
            return pixels[:, ::-1] if view.flip else pixels
        return _resize(_decode_window(image, data, view.window), _within_window(view), size)


def shrink(images: EncodedImages, index: int, short_side: int, quality: int) -> bytes:
    """An image as a JPEG of that quality, its shorter side resized to `short_side` pixels.

    As torchvision's Resize does it; an image that is no larger is returned as it is.

    Raises:
      DamagedImage: the file is damaged, or no image.
      UserError: the file cannot be read.
    """
    with _naming(images, index):
        data = images.read(index)
        image = Image.open(io.BytesIO(data))
        shorter = min(image.size)
        if shorter <= short_side:
            image.load()  # raises if it is damaged
            return data
        width, height = (int(short_side * side / shorter) for side in image.size)
        small = image.convert("RGB").resize((width, height), Image.Resampling.BILINEAR)
        buffer = io.BytesIO()
        small.save(buffer, "JPEG", quality=quality)
        return buffer.getvalue()


@contextmanager
def _naming(images: EncodedImages, index: int) -> Iterator[None]:
    """Errors name the file."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # decoders of damaged files raise almost anything
        # Pillow's own are OSErrors too, but have no number.
        if isinstance(error, OSError) and error.errno is not None:
            raise UserError(f"{images.name(index)} cannot be read: {error.strerror}") from error
        # Pillow names its buffer, by its address.
        is_none = isinstance(error, UnidentifiedImageError)
        reason = "it is no image" if is_none else first_line(error)
        raise DamagedImage(
            f"{images.name(index)} cannot be decoded ({reason}): replace the file, or "
            "leave out up to N such files with --skip-damaged N"
        ) from error


def find_damaged(images: EncodedImages, on_progress: Callable[[int, int], None]) -> np.ndarray:
    """The indices of images that cannot be decoded, int64, after decoding all of them.

    Raises:
      UserError: a file cannot be read, which says nothing of what is in it.
    """

    def is_damaged(index: int) -> bool:
        try:
            take_view(images, index, 1, _whole)
        except DamagedImage:
            return True
        return False

    indices, damaged = range(len(images)), []
    chunks = [indices[start : start + _CHUNK] for start in indices[::_CHUNK]]
    with ThreadPoolExecutor(platform.cpu_threads()) as pool:
        found = pool.map(lambda chunk: [*filter(is_damaged, chunk)], chunks)
        for chunk, some in zip(chunks, found, strict=True):
            damaged += some
            on_progress(chunk.stop, len(images))
    return np.array(damaged, np.int64)


def _whole(width: int, height: int, _size: int) -> View:
    box = Box(0, 0, width, height)
    return View(box, box)


def _is_plain_jpeg(image: Image.Image, data: bytes) -> bool:
    """Three colours, and not cut short, which only decoding all of it would show otherwise."""
    complete = _END_OF_JPEG in data[-_TRAILER:]
    return image.format == "JPEG" and image.mode == "RGB" and complete


def _decode_window(image: Image.Image, data: bytes, window: Box) -> Image.Image:
    """A JPEG's pixels within the window, as they are in the whole picture.

    Decoded with a margin, since colours, which are stored at half the resolution, are interpolated.
    """
    left, top, right, bottom = map(int, window)
    first_column, first_row = max(0, left - _MARGIN), max(0, top - _MARGIN)
    last_column, last_row = min(image.width, right + _MARGIN), min(image.height, bottom + _MARGIN)
    # As Pillow has it; TensorFlow's own default is coarser.
    with_margin = Box(first_column, first_row, last_column, last_row)
    pixels = _decode(data, with_margin, dct_method="INTEGER_ACCURATE")
    rows = slice(top - first_row, bottom - first_row)
    columns = slice(left - first_column, right - first_column)
    return Image.fromarray(pixels[rows, columns])


def _decode(data: bytes, window: Box, **options: Any) -> np.ndarray:
    """The window of a JPEG, (height, width, 3) uint8. options: of tf.io.decode_and_crop_jpeg."""
    tf = import_tensorflow()
    edges = [int(edge) for edge in (window.top, window.left, window.height, window.width)]
    # With anything but tensors and a float, TensorFlow takes a slow way through Python.
    pixels = tf.raw_ops.DecodeAndCropJpeg(
        contents=tf.constant(data),
        crop_window=tf.constant(edges),
        channels=3,
        acceptable_fraction=1.0,
        **options,
    )
    return np.asarray(memoryview(pixels))


def _within_window(view: View) -> View:
    """The view of what lies in its window."""
    left, top, right, bottom = view.window
    box = Box(*np.subtract(view.box, (left, top, left, top)).tolist())
    return View(box, Box(0, 0, right - left, bottom - top), view.flip)


def _resize(image: Image.Image, view: View, size: int) -> np.ndarray:
    """The pixels around a box take part if they lie in the window."""
    if view.window != (0, 0, *image.size):
        left, top, right, bottom = map(int, view.window)
        image = image.crop((left, top, right, bottom))
        view = _within_window(view)
    resized = image.resize((size, size), Image.Resampling.BILINEAR, box=view.box)
    if view.flip:  # here, for NumPy would copy it pixel by pixel
        resized = resized.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return np.asarray(resized)


def _decode_fast(data: bytes, window: Box, size: int) -> np.ndarray:
    """At the smallest scale that has at least size x size pixels, then plain bilinear."""
    ratio = next(r for r in _RATIOS if r == 1 or min(window.width, window.height) >= r * size)
    # To the nearest pixel of that scale: rounding down would move the picture by up to one.
    scaled = Box(*((int(edge) + ratio // 2) // ratio for edge in window))
    pixels = _decode(data, scaled, ratio=ratio, fancy_upscaling=False, dct_method="INTEGER_FAST")
    tf = import_tensorflow()
    resized = tf.raw_ops.ResizeBilinear(
        images=tf.constant(pixels[None]), size=tf.constant([size, size]), half_pixel_centers=True
    )
    return np.rint(memoryview(resized))[0].astype(np.uint8)
