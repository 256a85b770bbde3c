"""Plots of a report page as SVG: intervals, lines with bands, points with error bars, bars.

Guarantees: every value is drawn with its interval where it has one, values that are unknown are left out and never
drawn as zero, and colors come from the page, so that they hold in light and dark. Texts are escaped. Each plot can be
drawn narrow, for a telephone, with letters of the same size; ``both`` gives the page the two.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from cai_assets.evals.statistics import Estimate
from cai_assets.reports.html.axes import (
    BOTTOM,
    COLORS,
    DASHES,
    LETTER,
    NARROW,
    TOP,
    WIDE,
    Scale,
    empty,
    ends,
    guide,
    horizontal,
    spread,
    svg,
    text,
    vertical,
)
from cai_assets.reports.html.places import label_places

Bounds = tuple[float, float]
ROW, LINE = 26, 20
LONGEST = 40  # letters of a name
LABEL = 28  # letters of a name that stands beside its point


class Point(NamedTuple):
    """A named point with the ends of its intervals. Points of one ``series`` look alike."""

    name: str
    x: Estimate
    y: Estimate
    series: int = 0


def both(draw: Callable[..., str]) -> str:
    """A plot for a desk and the same for a telephone, of which the page shows one."""
    return f'<div class="wide-only">{draw(width=WIDE)}</div><div class="narrow">{draw(width=NARROW)}</div>'


def intervals(rows: Mapping[str, Estimate], *, axis: str, line: float | None = None, bounds: Bounds | None = None,
              width: int = WIDE) -> str:
    """One value with its interval a row. ``line``: where no difference is."""
    known = {n: e for n, e in rows.items() if e.value is not None}
    if not known:
        return empty()
    narrow = width < WIDE
    row, left = (44, 10) if narrow else (ROW, _margin(known))
    low, high = bounds or spread([v for e in known.values() for v in ends(e)] + ([] if line is None else [line]))
    x, height = Scale(low, high, left, width - 20), TOP + row * len(known) + BOTTOM
    parts = horizontal(x, axis, height)
    if line is not None:
        parts.append(guide(x(line), TOP - 6, x(line), height - BOTTOM))
    for i, (name, e) in enumerate(known.items()):
        y = TOP + row * (i + 1) - 16
        parts.append(text(left, y - 12, name, limit=44) if narrow else
                     text(left - 10, y + 4, name, anchor="end", limit=LONGEST))
        parts.append(f'<line x1="{x(min(ends(e))):.1f}" x2="{x(max(ends(e))):.1f}" y1="{y}" y2="{y}" '
                     f'stroke="var(--mark)" stroke-width="3"/>'
                     f'<circle cx="{x(float(e.value or 0)):.1f}" cy="{y}" r="5" fill="var(--mark)"/>')
    return svg(parts, height, width)


def lines(series: Mapping[str, Sequence[Estimate]], *, x_axis: str, y_axis: str, first: int = 0,
          bounds: Bounds | None = None, line: float | None = None, names: Sequence[str] = (),
          width: int = WIDE) -> str:
    """Curves over consecutive places from ``first``, each with the band of its intervals; dashes tell them apart too.

    ``names``: of the places, where they are no whole numbers. ``line``: where no difference is.
    """
    drawn = {name: s for name, s in series.items() if any(e.value is not None for e in s)}
    known = [v for s in drawn.values() for e in s if e.value is not None for v in ends(e)]
    if not known:
        return empty()
    narrow = width < WIDE
    right, below = (width - 16, LINE * len(drawn)) if narrow else (width - 170, 0)
    height = 300 + below
    floor = 300 - BOTTOM
    longest = max(len(s) for s in drawn.values())
    x = Scale(first, first + max(longest - 1, 1), 74, right - 12)
    y = Scale(*(bounds or spread([*known, *([] if line is None else [line])])), floor, TOP)
    parts = [*vertical(y, y_axis, 60, right), *_places(x, first, longest, names, floor),
             text((60 + right) / 2, 294, x_axis, anchor="middle")]
    if line is not None:
        parts.append(guide(60, y(line), right, y(line)))
    for n, (name, values) in enumerate(drawn.items()):
        at = [(x(first + i), e) for i, e in enumerate(values) if e.value is not None]
        parts += _line(at, y, COLORS[n % 6], DASHES[n % 6])
        left, top = (20, 300 + LINE * n + 10) if narrow else (right + 14, TOP + LINE * n + 8)
        parts.append(f'<line x1="{left}" x2="{left + 25}" y1="{top}" y2="{top}" stroke="{COLORS[n % 6]}" '
                     f'stroke-width="2" stroke-dasharray="{DASHES[n % 6]}"/>'
                     + text(left + 31, top + 4, name, limit=36 if narrow else 18))
    return svg(parts, height, width)


def scatter(points: Sequence[Point], *, x_axis: str, y_axis: str, diagonal: bool = False,
            bounds: tuple[Bounds, Bounds] | None = None, quarters: tuple[float, float] | None = None,
            width: int = WIDE) -> str:
    """Named points with both intervals. ``diagonal``: the line on which both axes agree. ``bounds``: of x and of y.
    ``quarters``: a place (x, y) from which the quarters are told apart."""
    known = [p for p in points if p.x.value is not None and p.y.value is not None]
    if not known:
        return empty()
    narrow, floor = width < WIDE, (340 if width < WIDE else 420) - BOTTOM
    columns = [[v for p in known for v in ends(p.x)], [v for p in known for v in ends(p.y)]]
    spans = [spread([*columns[0], *columns[1]] if diagonal else c) for c in columns]
    x = Scale(*(bounds or spans)[0], 60, width - 20)
    y = Scale(*(bounds or spans)[1], floor, TOP)
    letters = narrow or len(known) > 8 or max(len(p.name) for p in known) > LABEL
    key = [f"{_letter(i)}  {p.name}" for i, p in enumerate(known)] if letters and any(p.name for p in known) else []
    parts = [*vertical(y, y_axis, 60, width - 20), *horizontal(x, x_axis, floor + BOTTOM)]
    if diagonal:
        low, high = max(x.low, y.low), min(x.high, y.high)
        parts.append(guide(x(low), y(low), x(high), y(high)))
    if quarters:
        parts += [guide(x(quarters[0]), TOP, x(quarters[0]), floor),
                  guide(60, y(quarters[1]), width - 20, y(quarters[1]))]
    centers = [(x(float(p.x.value or 0)), y(float(p.y.value or 0))) for p in known]
    parts += [_cross(p, center, x, y) for p, center in zip(known, centers, strict=True)]
    labels = [_letter(i) if key else p.name for i, p in enumerate(known)]
    boxes = label_places(centers, [len(s) * LETTER for s in labels], (62, TOP, width - 20, floor))
    parts += [text(px, py, s, limit=40, bold=bool(key)) for (px, py), s in zip(boxes, labels, strict=True)]
    parts += [text(20, floor + BOTTOM + LINE * (i + 1), k, limit=44 if narrow else 80) for i, k in enumerate(key)]
    return svg(parts, floor + BOTTOM + LINE * len(key) + (8 if key else 0), width)


def bars(rows: Mapping[str, float], *, unit: str = "", width: int = WIDE) -> str:
    """One bar a row, with its value beside it."""
    if not rows:
        return empty()
    narrow = width < WIDE
    row, left = (40, 10) if narrow else (ROW, _margin(rows))
    x = Scale(0, max(*rows.values(), 0) or 1, left, width - 100)
    parts = []
    for i, (name, value) in enumerate(rows.items()):
        y = TOP + row * (i + 1) - 16
        parts.append(text(left, y - 10, name, limit=44) if narrow else
                     text(left - 10, y + 4, name, anchor="end", limit=LONGEST))
        parts.append(f'<rect x="{left}" y="{y - 6}" width="{max(x(value) - left, 1):.1f}" height="12" '
                     'fill="var(--mark)"/>' + text(x(value) + 8, y + 5, f"{value:,.4g} {unit}".strip()))
    return svg(parts, TOP + row * len(rows) + 4, width)


def _margin(names: Iterable[str]) -> float:
    """Room for the longest name."""
    return min(max(map(len, names)), LONGEST) * LETTER + 16


def _line(at: Sequence[tuple[float, Estimate]], y: Scale, color: str, dash: str) -> list[str]:
    path = "L".join(f"{px:.1f},{y(float(e.value or 0)):.1f}" for px, e in at)
    parts = [f'<path d="M{path}" fill="none" stroke="{color}" stroke-width="2" stroke-dasharray="{dash}"/>']
    band = [(px, max(ends(e)), min(ends(e))) for px, e in at]
    if len(band) > 1:
        edge = [*((px, high) for px, high, _ in band), *((px, low) for px, _, low in reversed(band))]
        outline = "L".join(f"{px:.1f},{y(v):.1f}" for px, v in edge)
        parts.insert(0, f'<path d="M{outline}Z" fill="{color}" fill-opacity="0.13"/>')
    for px, e in at:
        places = [y(v) for v in ends(e)]
        parts.append(f'<line x1="{px:.1f}" x2="{px:.1f}" y1="{min(places):.1f}" y2="{max(places):.1f}" '
                     f'stroke="{color}"/><circle cx="{px:.1f}" cy="{y(float(e.value or 0)):.1f}" r="3.5" '
                     f'fill="{color}"/>')
    return parts


def _places(x: Scale, first: int, longest: int, names: Sequence[str], floor: float) -> list[str]:
    """Labels under the places, as many as there is room for."""
    labels = [names[i] if i < len(names) else str(first + i) for i in range(longest)]
    wide = max(len(s) for s in labels) * LETTER + 10
    every = max(1, round(wide * longest / max(x.end - x.start, 1) + 0.49))
    return [text(x(first + i), floor + 18, s, anchor="middle") for i, s in enumerate(labels) if i % every == 0]


def _cross(p: Point, center: tuple[float, float], x: Scale, y: Scale) -> str:
    (cx, cy), color = center, COLORS[p.series % 6]
    ex, ey = [x(v) for v in ends(p.x)], [y(v) for v in ends(p.y)]
    return (f'<path d="M{min(ex):.1f},{cy:.1f}H{max(ex):.1f}M{cx:.1f},{min(ey):.1f}V{max(ey):.1f}" '
            f'stroke="{color}" stroke-opacity="0.7" fill="none"/>'
            f'<circle cx="{cx:.1f}" cy="{cy:.1f}" r="5" fill="{color}"/>')


def _letter(i: int) -> str:
    return chr(65 + i) if i < 26 else f"{chr(64 + i // 26)}{chr(65 + i % 26)}"
