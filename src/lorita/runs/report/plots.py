"""Curves and bars as SVG that stands in a page, or in a file of its own.

pygal lays them out. Its own styles, scripts and comments are removed: the page's style sheet
colours the plots, so that they follow its light and dark, and nothing is loaded from elsewhere.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Callable, Sequence
from typing import Any

Points = Sequence[tuple[float, float]]

WIDTH, HEIGHT = 440, 250
"""Of a plot, in its own units: about the width of a phone, so that its text stays legible."""
MOST_POINTS = 300
"""Points of a curve; of more, the means of as many as are needed stand for all."""
MARGIN = 6
LARGEST, LEAST = 1e12, 1e-12
"""Larger numbers of a log are drawn at the edge, smaller ones as 0, and so are smaller shares of a
curve's height: an axis over them would have marks without end."""
_SVG = "http://www.w3.org/2000/svg"
_DROPPED = ("defs", "script", "style", "title", "desc")
_LAYERS = ("tooltip", "text-overlay")
"""Groups that only pygal's scripts use."""


def thinned(points: Points) -> list[tuple[float, float]]:
    """At most ``MOST_POINTS`` points: means of neighbours, at their last place."""
    if not points:
        return []
    points = list(zip(*map(_bounded, zip(*points, strict=True)), strict=True))
    each = -(-len(points) // MOST_POINTS)
    if each <= 1:
        return points
    groups = [points[start : start + each] for start in range(0, len(points), each)]
    return [(group[-1][0], sum(y for _, y in group) / len(group)) for group in groups]


def _bounded(values: Sequence[float]) -> list[float]:
    """The values as an axis can hold them."""
    found = [max(-LARGEST, min(value, LARGEST)) if abs(value) > LEAST else 0.0 for value in values]
    if max(found) - min(found) <= LEAST * max(map(abs, found)):
        return [found[0]] * len(found)
    return found


def curves(
    series: Sequence[Points], *, label: str, x: str = "step", points: Sequence[int] = ()
) -> str:
    """Lines over a common axis ``x``. ``label`` says in words what they show.

    The series with these numbers in ``points`` are drawn with a dot at each point.
    """
    import pygal

    chart = _chart(pygal.XY, x_title=x, x_value_formatter=_short, show_dots=False)
    for number, line in enumerate(series):
        single = len(line) == 1
        chart.add("", thinned(line), show_dots=number in points or single, dots_size=3)
    return _markup(chart, label)


def bars(values: Sequence[float], names: Sequence[str], *, label: str, x: str) -> str:
    """Bars over the names of an axis ``x``."""
    import pygal

    chart = _chart(pygal.Bar, x_title=x, include_x_axis=True, x_labels=list(names))
    chart.truncate_label = -1
    chart.add("", _bounded(values))
    return _markup(chart, label)


def file_of(plot: str, key: Sequence[str], *, title: str) -> str:
    """A plot as an SVG file with its own colours; ``key`` names its lines."""
    root = ET.fromstring(plot)
    root.set("width", str(2 * WIDTH))
    root.set("viewBox", f"0 -34 {WIDTH} {HEIGHT + 34}")
    style = ET.Element("style")
    style.text = _FILE_STYLE
    head = [style, _element("rect", "paper", x="0", y="-34", width="100%", height="100%")]
    head.append(_element("text", "heading", title, x="8", y="-15"))
    for number, name in enumerate(reversed(key)):
        place = WIDTH - 12 - 90 * number
        group = ET.Element("g", {"class": f"color-{len(key) - 1 - number}"})
        group.append(_element("path", "line", d=f"M{place - 84} -20 h16"))
        group.append(_element("text", "name", name, x=str(place - 62), y="-15"))
        head.append(group)
    for place, element in enumerate(head):
        root.insert(place, element)
    return ET.tostring(root, encoding="unicode") + "\n"


def _element(tag: str, kind: str, text: str | None = None, **attributes: str) -> ET.Element:
    element = ET.Element(tag, {"class": kind, **attributes})
    element.text = text
    return element


def _chart(kind: Callable[..., Any], **options: Any) -> Any:
    from pygal.style import Style

    return kind(
        style=Style(label_font_size=13, major_label_font_size=13, title_font_size=13),
        width=WIDTH, height=HEIGHT, margin=MARGIN, margin_right=14, spacing=6,
        js=[], css=[], show_legend=False, min_scale=3, max_scale=6, value_formatter=_short,
        **options,
    )  # fmt: skip


def _short(value: Any) -> str:
    """A number at an axis: four figures at most, thousands with a separator."""
    if not isinstance(value, (int, float)):
        return str(value)
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.4g}"


def _markup(chart: Any, label: str) -> str:
    root = chart.render_tree()
    _clean(root)
    for name in ("id", "xmlns"):
        root.attrib.pop(name, None)
    root.set("role", "img")
    root.set("aria-label", label)
    ET.register_namespace("", _SVG)
    text = ET.tostring(root, encoding="unicode")
    return text if "xmlns=" in text else text.replace("<svg", f'<svg xmlns="{_SVG}"', 1)


def _clean(element: Any) -> None:
    """Remove what does not draw, and round what does."""
    for child in list(element):
        if not _draws(child):
            element.remove(child)
            continue
        if not child.get("class"):
            child.attrib.pop("class", None)
        _clean(child)


def _draws(element: Any) -> bool:
    tag = element.tag.rpartition("}")[2] if isinstance(element.tag, str) else None  # a comment
    kind = element.get("class", "")
    return tag is not None and tag not in _DROPPED and not kind.startswith(_LAYERS)


_FILE_STYLE = """
svg { color-scheme: light dark; }
text { fill: #4b5360; font: 13px system-ui, sans-serif; }
.heading { fill: #1d2026; font-weight: bold; }
.paper { fill: #ffffff; } .background { fill: none; }
.axis.y text { text-anchor: end; } .axis.x text, text.title { text-anchor: middle; }
.line { fill: none; } .guide.line { stroke: #e3e6ea; }
.axis > .line, .axis.line { stroke: #aab1bb; }
.line { stroke-width: 2; } .guide.line, .axis .line { stroke-width: 1; }
.color-0 .line { stroke: #2f6fb5; } .color-1 .line { stroke: #c4622d; }
.color-0 .dot { fill: #2f6fb5; } .color-1 .dot { fill: #c4622d; }
@media (prefers-color-scheme: dark) {
text { fill: #a9b1bc; } .heading { fill: #e6e8eb; } .paper { fill: #16181c; }
.guide.line { stroke: #30343b; } .axis > .line, .axis.line { stroke: #5b636e; }
.color-0 .line { stroke: #6ea3e0; } .color-1 .line { stroke: #e8935f; }
.color-0 .dot { fill: #6ea3e0; } .color-1 .dot { fill: #e8935f; }
}
"""
