"""Scales, axes and texts that every plot of a report page is made of."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple
from xml.sax.saxutils import escape

from cai_assets.evals.statistics import Estimate
from cai_assets.reports.escape import shorten, visible

WIDE, NARROW = 640, 340  # on a desk, and on a telephone
TOP, BOTTOM = 14, 40
SIZE = 13  # of letters; a letter is about 0.56 of it wide
LETTER = 0.56 * SIZE
COLORS = ("var(--mark)", "var(--second)", "var(--third)", "var(--fourth)", "var(--faint)", "var(--ink)")
DASHES = ("", "6 4", "2 3", "8 3 2 3", "1 4", "10 4")


class Scale(NamedTuple):
    """From values to places; what lies outside is drawn at the edge."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        return self.start + (min(max(value, self.low), self.high) - self.low) / (self.high - self.low) * (
            self.end - self.start)

    def ticks(self, at_most: int = 6) -> list[float]:
        step = 10 ** math.floor(math.log10((self.high - self.low) / 2))
        step *= next(m for m in (1, 2, 5, 10, 20) if (self.high - self.low) / (step * m) <= at_most)
        first = math.ceil(self.low / step - 1e-9)
        return [round(i * step, 10) for i in range(first, math.floor(self.high / step + 1e-9) + 1)]


def ends(e: Estimate) -> tuple[float, ...]:
    """What is known of low end, value and high end."""
    return tuple(v for v in (e.low, e.value, e.high) if v is not None)


def spread(values: Sequence[float]) -> tuple[float, float]:
    """A little more than the range of the values."""
    low, high = min(values), max(values)
    room = (high - low) * 0.08 or max(abs(high) * 0.1, 0.5)
    return low - room, high + room


def horizontal(x: Scale, label: str, height: int) -> list[str]:
    base = height - BOTTOM
    parts = [f'<line x1="{x.start}" x2="{x.end}" y1="{base}" y2="{base}" stroke="var(--line)"/>']
    parts += [f'<line x1="{x(t):.1f}" x2="{x(t):.1f}" y1="{base}" y2="{base + 4}" stroke="var(--faint)"/>'
              + text(x(t), base + 18, f"{t:g}", anchor="middle") for t in x.ticks()]
    return [*parts, text((x.start + x.end) / 2, height - 6, label, anchor="middle")]


def vertical(y: Scale, label: str, start: float, end: float) -> list[str]:
    parts = [f'<line x1="{start}" x2="{end}" y1="{y(t):.1f}" y2="{y(t):.1f}" stroke="var(--line)"/>'
             + text(start - 8, y(t) + 4, f"{t:g}", anchor="end") for t in y.ticks()]
    middle = (y.start + y.end) / 2
    return [*parts, f'<text x="14" y="{middle:.1f}" text-anchor="middle" font-size="{SIZE}" fill="currentColor" '
                    f'transform="rotate(-90 14 {middle:.1f})">{escape(visible(label))}</text>']


def guide(x1: float, y1: float, x2: float, y2: float) -> str:
    """A dashed line that marks no difference."""
    return (f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="var(--faint)" '
            'stroke-dasharray="4 3"/>')


def text(x: float, y: float, content: str, *, anchor: str = "start", limit: int = 60, bold: bool = False) -> str:
    weight = ' font-weight="600"' if bold else ""
    return (f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{SIZE}"{weight} fill="currentColor">'
            f"{escape(shorten(visible(content), limit))}</text>")


def svg(parts: Sequence[str], height: float, width: int = WIDE) -> str:
    # Hidden from screen readers: the figure's own text says it better.
    return (f'<svg viewBox="0 0 {width} {height:g}" width="{width}" height="{height:g}" aria-hidden="true" '
            f'font-family="system-ui, sans-serif">{"".join(parts)}</svg>')


def empty() -> str:
    return "<p>No values yet.</p>"
