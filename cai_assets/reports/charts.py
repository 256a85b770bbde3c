"""Small charts as markdown images, made of SVG by hand.

Dagster shows markdown under 1,000 characters without a click, so every chart here, whatever it is given, has less
than 900 characters. Colors keep a contrast of 3 to 1 on white and on black; backgrounds are transparent.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple
from urllib.parse import quote

from cai_assets.evals.statistics import Estimate
from cai_assets.reports.escape import inline, shorten, visible
from cai_assets.reports.text.tables import SHOWN

LINE, TEXT = "#3b82f6", "#808080"
WIDTH, HEIGHT = 200, 40
ROW = 12
Number = float | int | None


class Point(NamedTuple):
    """A known value; points of one stroke have no gap between them."""

    i: int
    y: float
    stroke: int


def sparkline(values: Sequence[Number], *, label: str = "") -> str:
    """A markdown image of a curve with first, last, lowest and highest value in words; under 900 characters.

    Long curves keep the lowest and highest value of each stretch, so that spikes survive. A value that is None, NaN
    or infinite is a gap in the line.
    """
    points = list(_points(values))
    name = inline(label, 40)
    if not points:
        return f"{name}: no values" if name else "no values"
    ys = [p.y for p in points]
    title = f"{ys[0]:.3g} → {ys[-1]:.3g} (lowest {min(ys):.3g}, highest {max(ys):.3g}, {len(values)} points)"
    title = f"{name}: {title}" if name else title
    gaps = len(values) - len(points)
    title += f", {gaps} missing" if gaps else ""
    for stretches in (30, 20, 12, 8, 4):
        chart = f"{_image(_curve(_extremes(points, stretches), len(values)), HEIGHT)} {title}"
        if len(chart) <= SHOWN:
            return chart
    return title


def interval_bar(estimates: Mapping[str, Estimate], *, low: float = 0.0, high: float = 1.0) -> str:
    """A markdown image with one interval and its value for each name, between ``low`` and ``high``.

    Names that do not fit below 900 characters are counted, not shown.
    """
    known = [(name, e) for name, e in estimates.items() if e.value is not None]
    for shown in range(len(known), 0, -1):
        left = len(estimates) - shown
        chart = _image(_bars(known[:shown], low, high), ROW * shown) + (f" and {left} more" if left else "")
        if len(chart) <= SHOWN:
            return chart
    return "no estimates"


def _points(values: Sequence[Number]) -> Iterator[Point]:
    stroke = 0
    for i, v in enumerate(values):
        if v is None or not math.isfinite(v):
            stroke += 1
        else:
            yield Point(i, float(v), stroke)


def _extremes(points: list[Point], stretches: int) -> list[Point]:
    if len(points) <= 2 * stretches:
        return points
    kept = {points[0], points[-1]}
    for s in range(stretches):
        here = points[s * len(points) // stretches : (s + 1) * len(points) // stretches]
        kept |= {min(here, key=lambda p: p.y), max(here, key=lambda p: p.y)}
    return sorted(kept)


def _curve(points: list[Point], n: int) -> str:
    low, high = min(p.y for p in points), max(p.y for p in points)
    path, stroke = "", -1
    for p in points:
        share = (p.y - low) / (high - low) if high > low else 0.5
        x, y = p.i * (WIDTH - 2) / max(n - 1, 1), HEIGHT - 2 - share * (HEIGHT - 4)
        path += f"L{x:.0f},{y:.0f}" if p.stroke == stroke else f"M{x:.0f},{y:.0f}h1"  # a lone point shows as a dot
        stroke = p.stroke
    return f"<path d='{path}' fill='none' stroke='{LINE}' stroke-width='2'/>"


def _bars(rows: Sequence[tuple[str, Estimate]], low: float, high: float) -> str:
    def x(value: float) -> str:
        return f"{90 + (min(max(value, low), high) - low) / (high - low) * 108:.0f}"

    path, texts = "", ""
    for i, (name, e) in enumerate(rows):
        y, value = ROW * i + 6, e.value or 0.0
        if e.low is not None and e.high is not None:
            path += f"M{x(e.low)},{y}H{x(e.high)}"
        path += f"M{x(value)},{y - 3}v6"
        texts += f"<text y='{y + 3}'>{_xml(name)}</text>"
    return f"<g fill='{TEXT}' font-size='9'>{texts}</g><path d='{path}' stroke='{LINE}' stroke-width='2'/>"


def _xml(text: str) -> str:
    return shorten(visible(text), 20).replace("&", "&amp;").replace("<", "&lt;")


def _image(content: str, height: int) -> str:
    svg = f"<svg xmlns='http://www.w3.org/2000/svg' width='{WIDTH}' height='{height}'>{content}</svg>"
    return f"![chart](data:image/svg+xml,{quote(svg, safe=chr(39) + ',:=/')})"
