"""Training curves: one small plot for each, in a grid."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from cai_assets.reports.html.axes import COLORS, WIDE, Scale, empty, svg, text

HEIGHT, GAP = 130, 30
MOST = 200  # points of one curve that are drawn
Curve = Sequence[tuple[float, float]]  # step and value


def small_multiples(curves: Mapping[str, Curve], *, width: int = WIDE) -> str:
    """A curve a panel, each on its own scale, with first, last, lowest and highest value below it."""
    finite = {name: [p for p in curve if math.isfinite(p[1])] for name, curve in curves.items()}
    drawn = {name: curve for name, curve in finite.items() if curve}
    if not drawn:
        return empty()
    columns = 2 if width >= WIDE else 1
    wide = (width - GAP * (columns - 1)) / columns
    parts = [_panel(name, curve, (i % columns) * (wide + GAP), (i // columns) * (HEIGHT + GAP), wide)
             for i, (name, curve) in enumerate(drawn.items())]
    rows = math.ceil(len(drawn) / columns)
    return svg(parts, rows * HEIGHT + (rows - 1) * GAP, width)


def _panel(name: str, curve: Curve, left: float, top: float, wide: float) -> str:
    steps, values = [s for s, _ in curve], [v for _, v in curve]
    low, high = min(values), max(values)
    room = (high - low) * 0.05 or 1.0
    x = Scale(steps[0], max(steps[-1], steps[0] + 1), left + 4, left + wide - 4)
    y = Scale(low - room, high + room, top + HEIGHT - 24, top + 22)
    base = top + HEIGHT - 20
    path = "L".join(f"{x(s):.1f},{y(v):.1f}" for s, v in thinned(curve))
    return (text(left, top + 12, name, bold=True)
            + f'<line x1="{left:.1f}" x2="{left + wide:.1f}" y1="{base:.1f}" y2="{base:.1f}" stroke="var(--line)"/>'
            + f'<path d="M{path}" fill="none" stroke="{COLORS[0]}" stroke-width="1.6"/>'
            + f'<circle cx="{x(steps[-1]):.1f}" cy="{y(values[-1]):.1f}" r="3" fill="{COLORS[0]}"/>'
            + text(left, top + HEIGHT - 4, f"{values[0]:.2g} → {values[-1]:.2g}, from {low:.2g} to {high:.2g}"))


def describe(curve: Curve) -> str:
    """A curve in words."""
    values = [v for _, v in curve]
    return f"{values[0]:.3g} → {values[-1]:.3g}, between {min(values):.3g} and {max(values):.3g}, {len(values)} points"


def thinned(curve: Curve) -> Curve:
    """At most about MOST points: the lowest and the highest of each stretch, so that spikes survive."""
    if len(curve) <= MOST:
        return curve
    size = math.ceil(2 * len(curve) / MOST)
    parts = [curve[i : i + size] for i in range(0, len(curve), size)]
    kept = {p for part in parts for p in (min(part, key=lambda q: q[1]), max(part, key=lambda q: q[1]))}
    return sorted({curve[0], curve[-1], *kept})
