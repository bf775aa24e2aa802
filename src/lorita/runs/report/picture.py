"""Curves as a PNG file, for places that show no SVG, such as a model card on the hub.

Pillow draws them with the font that it brings, so the picture is the same on every machine.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from io import BytesIO
from typing import TYPE_CHECKING

from lorita.runs.report.plots import Points, thinned

if TYPE_CHECKING:
    from PIL.ImageDraw import ImageDraw

WIDTH, HEIGHT = 880, 560
LEFT, RIGHT, TOP, BOTTOM = 80, 28, 72, 64
"""Room around the curves, in pixels."""
FONT_SIZE = 22
COLOURS = ("#2f6fb5", "#c4622d")
INK, GREY, PALE = "#1d2026", "#4b5360", "#e3e6ea"


def picture(series: Sequence[Points], key: Sequence[str], *, title: str, x: str = "step") -> bytes:
    """Lines over a common axis ``x`` as the bytes of a PNG; ``key`` names each of them.

    The first is a line, those after it also have a dot at each point, and so has a single point.
    """
    from PIL import Image, ImageDraw, ImageFont

    image = Image.new("RGB", (WIDTH, HEIGHT), "white")
    draw = ImageDraw.Draw(image)
    draw.font = ImageFont.load_default(FONT_SIZE)
    lines = [thinned(points) for points in series]
    across = _Axis([px for line in lines for px, _ in line], LEFT, WIDTH - RIGHT)
    up = _Axis([py for line in lines for _, py in line], HEIGHT - BOTTOM, TOP)
    for value in up.ticks:
        draw.line([(LEFT, up.place(value)), (WIDTH - RIGHT, up.place(value))], fill=PALE)
        draw.text((LEFT - 12, up.place(value)), f"{value:g}", fill=GREY, anchor="rm")
    for value in across.ticks:
        if value == round(value):  # there is no half of a step
            place = (across.place(value), HEIGHT - BOTTOM + 10)
            draw.text(place, f"{value:,.0f}", fill=GREY, anchor="mt")
    draw.text(((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 8), x, fill=GREY, anchor="mb")
    for number, line in enumerate(lines):
        colour = COLOURS[number % len(COLOURS)]
        points = [(across.place(px), up.place(py)) for px, py in line]
        draw.line(points, fill=colour, width=3, joint="curve")
        for px, py in points if number or len(points) == 1 else []:
            draw.ellipse((px - 5, py - 5, px + 5, py + 5), fill=colour)
    _head(draw, title, key)
    file = BytesIO()
    image.save(file, "PNG", optimize=True)
    return file.getvalue()


def _head(draw: ImageDraw, title: str, key: Sequence[str]) -> None:
    draw.text((16, 18), title, fill=INK)
    right = WIDTH - RIGHT
    for number in reversed(range(len(key))):
        draw.text((right, 18), key[number], fill=GREY, anchor="ra")
        right -= round(draw.textlength(key[number])) + 44
        draw.line([(right, 32), (right + 34, 32)], fill=COLOURS[number % len(COLOURS)], width=4)
        right -= 24


class _Axis:
    """Places in pixels for values; ``ticks`` are round values from end to end."""

    def __init__(self, values: Sequence[float], first: float, last: float) -> None:
        low, high = min(values), max(values)
        if high <= low:
            low, high = low - (abs(low) or 1) / 2, high + (abs(high) or 1) / 2
        rough = (high - low) / 7
        power = 10.0 ** math.floor(math.log10(rough))
        step = next(power * m for m in (1, 2, 5, 10) if power * m >= rough)
        self._low, self._high = low - (high - low) / 40, high + (high - low) / 40
        self._first, self._last = first, last
        start, end = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
        self.ticks = [round(number * step, 12) for number in range(start, end + 1)]

    def place(self, value: float) -> float:
        """The pixel of a value."""
        share = (value - self._low) / (self._high - self._low)
        return self._first + share * (self._last - self._first)
