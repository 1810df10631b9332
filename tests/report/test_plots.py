"""Plots come out as pictures in which everything can be told apart, and are embedded in HTML."""

import base64
import re
from collections.abc import Callable
from functools import partial
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread

from jaxresnet.report import plots
from jaxresnet.report.html import to_html
from jaxresnet.report.plots import Curve

_MANY = 8  # more than there are colours
_BLUE = (0x00, 0x72, 0xB2)  # the first colour
_NAMES = [f"name {index}" for index in range(_MANY)]

_curves = partial(plots.plot_curves, title="Title", x_label="epoch", y_label="loss")
_stack = partial(plots.plot_stacked_bars, title="Title", bars=["1"], x_label="x", y_label="s")

# One picture of each kind, with more entries than there are colours.
_PICTURES: dict[str, Callable[[Path], None]] = {
    "curves": lambda path: _curves(
        path, curves=[Curve(name, [2, 1], number) for number, name in enumerate(_NAMES)]
    ),
    "bars": lambda path: plots.plot_bars(
        path, "Title", "images/s", {name: {"CPU": 10, "GPU": 2_000} for name in _NAMES}
    ),
    "rates": lambda path: plots.plot_rates(path, "Title", {name: [50, 60] for name in _NAMES}),
    "stacked bars": lambda path: _stack(path, parts={name: [1] for name in _NAMES}),
    "differences": lambda path: plots.plot_differences(
        path, "Title", "step", "loss", {name: ([2, 1], [2, 1], [1e-7, 1e-6]) for name in _NAMES},
        ("here", "there"), 1e-3,
    ),
}  # fmt: skip


def _pixels(path: Path, draw: Callable[[Path], None]) -> np.ndarray:
    """The picture as (height, width, 3) of 0 to 255."""
    draw(path)
    return np.rint(255 * imread(path)[..., :3])


@pytest.mark.parametrize("kind", _PICTURES)
def test_more_entries_than_colours_make_a_picture_of_the_usual_width(kind: str, tmp_path: Path):
    height, width, _ = _pixels(tmp_path / "plot.png", _PICTURES[kind]).shape
    assert width == 900
    assert height > 400


@pytest.mark.parametrize("points", [1, 50])
@pytest.mark.parametrize("dashed", [False, True])
def test_curves_look_different(points: int, dashed: bool, tmp_path: Path):
    pictures = [
        _pixels(tmp_path / "plot.png", partial(_curves, curves=[curve])).tobytes()
        for curve in (Curve("run", [1.0] * points, number, dashed) for number in range(_MANY))
    ]
    assert len(set(pictures)) == _MANY


def test_parts_of_bars_look_different(tmp_path: Path):
    pictures = [
        _pixels(
            tmp_path / "plot.png",
            partial(_stack, parts={name: [float(name == shown)] for name in _NAMES}),
        ).tobytes()
        for shown in _NAMES
    ]
    assert len(set(pictures)) == _MANY


def test_legend_adds_height_alone(tmp_path: Path):
    few, many = (
        _pixels(
            tmp_path / "plot.png",
            partial(_curves, curves=[Curve(f"a rather long name {i}", [1, 2], i) for i in count]),
        ).shape
        for count in (range(2), range(_MANY))
    )
    assert many[0] > few[0]
    assert many[1] == few[1]


@pytest.mark.parametrize(
    "curve",
    [
        Curve("run", [2.0]),
        Curve("run", [2.0], deviations=[0.5]),
        Curve("run", [2.0], ranges=[(1.0, 4.0)]),
    ],
    ids=["plain", "deviations", "ranges"],
)
def test_single_epoch_is_visible(curve: Curve, tmp_path: Path):
    shown, legend = (
        (_pixels(tmp_path / "plot.png", partial(_curves, curves=[each])) == _BLUE).all(-1).sum()
        for each in (curve, Curve("run", [float("nan")]))
    )
    assert shown > legend


def test_marks_and_notes_are_drawn(tmp_path: Path):
    draw = partial(_curves, curves=[Curve("run", [2, 1], x=[50_000, 100_000])])
    marks = [(50_000, "epoch 1"), (100_000, "epoch 2")]
    plain, marked, noted = (
        _pixels(tmp_path / "plot.png", partial(draw, **more))
        for more in ({}, {"marks": marks}, {"note": "a word " * 30})
    )
    assert _vertical_lines(marked) == _vertical_lines(plain) + len(marks)
    assert len(noted) > len(plain)


def _vertical_lines(picture: np.ndarray) -> int:
    grey = (np.ptp(picture, axis=-1) == 0) & (picture[..., 0] < 200)
    filled = grey.sum(0) > 0.4 * len(picture)
    return int((np.diff(filled.astype(int)) == 1).sum())


class _Sources(HTMLParser):
    """Everything that a page refers to."""

    def __init__(self, page: str):
        super().__init__()
        self.sources: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.sources += [value or "" for name, value in attrs if name in ("src", "href")]


def test_html_needs_no_other_file(tmp_path: Path):
    _PICTURES["curves"](tmp_path / "plot.png")
    markdown = "# Runs\n\n| epoch | loss |\n| :-- | --: |\n| 1 | 2.0 |\n\n![plot](plot.png)\n"
    page = to_html(markdown, "Runs <of today>", tmp_path)
    (source,) = _Sources(page).sources
    kind, content = source.split(",")
    assert kind == "data:image/png;base64"
    assert base64.b64decode(content) == (tmp_path / "plot.png").read_bytes()
    assert "<title>Runs &lt;of today&gt;</title>" in page
    assert re.search(r'<div class="table"[^>]*><table>', page)
    assert not re.search(r"https?:|@import|url\(", page)
