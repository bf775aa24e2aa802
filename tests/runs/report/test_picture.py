"""The loss curves as a PNG: what is drawn, where, and that any numbers can be."""

from __future__ import annotations

from io import BytesIO

import pytest
from PIL import Image

from lorita.runs.report.picture import COLOURS, HEIGHT, WIDTH, _Axis, picture
from lorita.runs.report.plots import Points

FALLING = [(float(step), 4 - step / 10) for step in range(1, 31)]


def opened(*series: Points) -> Image.Image:
    names = ("training", "held-out")[: len(series)]
    return Image.open(BytesIO(picture(series, names, title="Loss"))).convert("RGB")


def seen(image: Image.Image, colour: str) -> list[tuple[int, int]]:
    """The pixels of a colour below the key."""
    wanted = tuple(bytes.fromhex(colour[1:]))
    places = ((x, y) for x in range(WIDTH) for y in range(60, HEIGHT))
    return [place for place in places if image.getpixel(place) == wanted]


def test_both_curves_are_drawn() -> None:
    image = opened(FALLING, [(10.0, 3.2), (30.0, 2.0)])
    assert image.size == (WIDTH, HEIGHT)
    line = seen(image, COLOURS[0])
    assert min(line)[1] < max(line)[1], "it falls: from the top left to the bottom right"
    assert seen(image, COLOURS[1])
    assert not seen(opened(FALLING), COLOURS[1])


def test_the_same_curves_give_the_same_bytes() -> None:
    assert picture([FALLING], ["training"], title="a") == picture(
        [FALLING], ["training"], title="a"
    )


@pytest.mark.parametrize("points", [
    [(1.0, 2.0)], [(1.0, 0.0)], [(1.0, 2.0), (2.0, 2.0)], [(1.0, -1e-9), (2.0, 1e-9)],
    [(1.0, 1e300), (9e9, 0.0)], [(float(i), float(i % 7)) for i in range(5000)],
])  # fmt: skip
def test_any_numbers(points: Points) -> None:
    assert seen(opened(points), COLOURS[0])


@pytest.mark.parametrize(("values", "ticks"), [
    ([1, 31], [5, 10, 15, 20, 25, 30]),
    ([2.1, 3.9], [2.5, 3.0, 3.5]),
    ([0, 1], [0, 0.2, 0.4, 0.6, 0.8, 1]),
])  # fmt: skip
def test_ticks_are_round(values: list[float], ticks: list[float]) -> None:
    assert _Axis(values, 0, 100).ticks == ticks
