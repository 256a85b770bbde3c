"""Plots of a report page as SVG: intervals, lines with bands, points with error bars.

Guarantees: every value is drawn with its interval where it has one, values that are unknown are left out and never
drawn as zero, and colours come from the page, so that they hold in light and dark. Texts are escaped.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple
from xml.sax.saxutils import escape

from cai_assets.evals.statistics import Estimate
from cai_assets.reports.escape import shorten, visible

WIDTH, LEFT, RIGHT, TOP, BOTTOM = 640, 200, 20, 14, 40
COLOURS = ("var(--mark)", "var(--second)", "var(--faint)", "var(--ink)")
DASHES = ("", "6 4", "2 3", "8 3 2 3")


class Point(NamedTuple):
    """A named point with the ends of its intervals."""

    name: str
    x: Estimate
    y: Estimate


class _Scale(NamedTuple):
    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        return self.start + (min(max(value, self.low), self.high) - self.low) / (self.high - self.low) * (
            self.end - self.start)

    def ticks(self) -> list[float]:
        step = 10 ** math.floor(math.log10((self.high - self.low) / 2))
        step *= next(m for m in (1, 2, 5, 10) if (self.high - self.low) / (step * m) <= 6)
        first = math.ceil(self.low / step - 1e-9)
        return [round(i * step, 10) for i in range(first, math.floor(self.high / step + 1e-9) + 1)]


def intervals(rows: Mapping[str, Estimate], *, axis: str, line: float | None = None,
              bounds: tuple[float, float] | None = None) -> str:
    """One value with its interval a row. ``line``: where no difference is."""
    known = {n: e for n, e in rows.items() if e.value is not None}
    if not known:
        return _empty()
    low, high = bounds or _bounds([v for e in known.values() for v in _ends(e)] + ([] if line is None else [line]))
    x, height = _Scale(low, high, LEFT, WIDTH - RIGHT), TOP + 26 * len(known) + BOTTOM
    parts = _x_axis(x, axis, height)
    if line is not None:
        parts.append(f'<line x1="{x(line):.1f}" x2="{x(line):.1f}" y1="{TOP - 6}" y2="{height - BOTTOM}" '
                     'stroke="var(--faint)" stroke-dasharray="4 3"/>')
    for i, (name, e) in enumerate(known.items()):
        y = TOP + 26 * i + 10
        parts.append(_text(LEFT - 10, y + 4, name, anchor="end", limit=28))
        ends = _ends(e)
        parts.append(f'<line x1="{x(min(ends)):.1f}" x2="{x(max(ends)):.1f}" y1="{y}" y2="{y}" stroke="var(--mark)" '
                     'stroke-width="3"/>')
        parts.append(f'<circle cx="{x(float(e.value or 0)):.1f}" cy="{y}" r="5" fill="var(--mark)"/>')
    return _svg(parts, height)


def lines(series: Mapping[str, Sequence[Estimate]], *, x_axis: str, y_axis: str, first: int = 0,
          bounds: tuple[float, float] | None = None) -> str:
    """Curves over consecutive whole numbers from ``first``, each with its intervals; dashes tell them apart too."""
    known = [v for s in series.values() for e in s if e.value is not None for v in _ends(e)]
    if not known:
        return _empty()
    height = 300
    longest = max(len(s) for s in series.values())
    x = _Scale(first, first + max(longest - 1, 1), 70, WIDTH - 150)
    y = _Scale(*(bounds or _bounds(known)), height - BOTTOM, TOP)
    parts = [*_y_axis(y, y_axis, 70, WIDTH - 150)]
    parts += [_text(x(first + i), height - BOTTOM + 18, str(first + i), anchor="middle") for i in range(longest)]
    parts.append(_text((70 + WIDTH - 150) / 2, height - 6, x_axis, anchor="middle"))
    drawn = {name: s for name, s in series.items() if any(e.value is not None for e in s)}
    for n, (name, values) in enumerate(drawn.items()):
        colour, dash = COLOURS[n % 4], DASHES[n % 4]
        at = [(x(first + i) + 4 * n, e) for i, e in enumerate(values) if e.value is not None]
        path = "L".join(f"{px:.1f},{y(float(e.value or 0)):.1f}" for px, e in at)
        parts.append(f'<path d="M{path}" fill="none" stroke="{colour}" stroke-width="2" stroke-dasharray="{dash}"/>')
        for px, e in at:
            ends = [y(v) for v in _ends(e)]
            parts.append(f'<line x1="{px:.1f}" x2="{px:.1f}" y1="{min(ends):.1f}" y2="{max(ends):.1f}" '
                         f'stroke="{colour}"/><circle cx="{px:.1f}" cy="{y(float(e.value or 0)):.1f}" r="3.5" '
                         f'fill="{colour}"/>')
        parts.append(f'<line x1="{WIDTH - 140}" x2="{WIDTH - 115}" y1="{TOP + 20 * n + 8}" y2="{TOP + 20 * n + 8}" '
                     f'stroke="{colour}" stroke-width="2" stroke-dasharray="{dash}"/>')
        parts.append(_text(WIDTH - 110, TOP + 20 * n + 12, name, limit=18))
    return _svg(parts, height)


def scatter(points: Sequence[Point], *, x_axis: str, y_axis: str, diagonal: bool = False,
            bounds: tuple[float, float] | None = None) -> str:
    """Named points with both intervals. ``diagonal``: the line on which both axes agree."""
    known = [p for p in points if p.x.value is not None and p.y.value is not None]
    if not known:
        return _empty()
    height = 420
    both = bounds or (_bounds([v for p in known for e in (p.x, p.y) for v in _ends(e)]) if diagonal else None)
    x = _Scale(*(both or _bounds([v for p in known for v in _ends(p.x)])), 70, WIDTH - RIGHT)
    y = _Scale(*(both or _bounds([v for p in known for v in _ends(p.y)])), height - BOTTOM, TOP)
    parts = [*_y_axis(y, y_axis, 70, WIDTH - RIGHT), *_x_axis(x, x_axis, height)]
    if diagonal:
        parts.append(f'<line x1="{x(x.low):.1f}" y1="{y(x.low):.1f}" x2="{x(x.high):.1f}" y2="{y(x.high):.1f}" '
                     'stroke="var(--faint)" stroke-dasharray="4 3"/>')
    for p in known:
        cx, cy = x(float(p.x.value or 0)), y(float(p.y.value or 0))
        ex, ey = [x(v) for v in _ends(p.x)], [y(v) for v in _ends(p.y)]
        parts.append(f'<path d="M{min(ex):.1f},{cy:.1f}H{max(ex):.1f}M{cx:.1f},{min(ey):.1f}V{max(ey):.1f}" '
                     f'stroke="var(--mark)" fill="none"/>'
                     f'<circle cx="{cx:.1f}" cy="{cy:.1f}" r="5" fill="var(--mark)"/>')
        right = cx < WIDTH - 180
        parts.append(_text(cx + (8 if right else -8), cy - 8, p.name, anchor="start" if right else "end", limit=40))
    return _svg(parts, height)


def _ends(e: Estimate) -> tuple[float, ...]:
    return tuple(v for v in (e.low, e.value, e.high) if v is not None)


def _bounds(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    room = (high - low) * 0.08 or max(abs(high) * 0.1, 0.5)
    return low - room, high + room


def _x_axis(x: _Scale, label: str, height: int) -> list[str]:
    base = height - BOTTOM
    parts = [f'<line x1="{x.start}" x2="{x.end}" y1="{base}" y2="{base}" stroke="var(--line)"/>']
    parts += [f'<line x1="{x(t):.1f}" x2="{x(t):.1f}" y1="{base}" y2="{base + 4}" stroke="var(--faint)"/>'
              + _text(x(t), base + 18, f"{t:g}", anchor="middle") for t in x.ticks()]
    return [*parts, _text((x.start + x.end) / 2, height - 6, label, anchor="middle")]


def _y_axis(y: _Scale, label: str, start: float, end: float) -> list[str]:
    parts = [f'<line x1="{start}" x2="{end}" y1="{y(t):.1f}" y2="{y(t):.1f}" stroke="var(--line)"/>'
             + _text(start - 8, y(t) + 4, f"{t:g}", anchor="end") for t in y.ticks()]
    middle = (y.start + y.end) / 2
    return [*parts, f'<text x="14" y="{middle:.1f}" text-anchor="middle" font-size="13" fill="currentColor" '
                    f'transform="rotate(-90 14 {middle:.1f})">{escape(visible(label))}</text>']


def _text(x: float, y: float, text: str, *, anchor: str = "start", limit: int = 60) -> str:
    return (f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="13" fill="currentColor">'
            f"{escape(shorten(visible(text), limit))}</text>")


def _svg(parts: Sequence[str], height: int) -> str:
    # Hidden from screen readers: the figure's own text says it better.
    return (f'<svg viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" aria-hidden="true" '
            f'font-family="system-ui, sans-serif">{"".join(parts)}</svg>')


def _empty() -> str:
    return "<p>No values yet.</p>"
