"""Training curves: one small plot for each, in a grid."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from cai_assets.reports.html.axes import COLORS, LETTER, WIDE, Scale, empty, svg, text

HEIGHT, GAP = 200, 28
HEAD, FOOT = 26, 58  # of a panel, above and below the curve
STEPS = "training step"
MOST = 200  # points of one curve that are drawn
Curve = Sequence[tuple[float, float]]  # step and value


def small_multiples(curves: Mapping[str, Curve], *, width: int = WIDE) -> str:
    """A curve a panel, each with its own axes: its values, in the unit that its name says, by training step."""
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
    room = (high - low) * 0.05 or abs(high) * 0.05 or 1.0
    base, right = top + HEIGHT - FOOT, left + wide - 10
    y = Scale(low - room, high + room, base, top + HEAD)
    ticks = [(y(t), f"{t:g}") for t in y.ticks(at_most=5)]
    start = left + max(len(label) for _, label in ticks) * LETTER + 10
    x = Scale(steps[0], max(steps[-1], steps[0] + 1), start, right)
    at = [t for t in x.ticks(at_most=5) if t == int(t)]
    parts = [text(left, top + 12, name, bold=True, limit=int(wide / LETTER))]
    parts += [f'<line x1="{start:.1f}" x2="{right:.1f}" y1="{py:.1f}" y2="{py:.1f}" stroke="var(--line)"/>'
              + text(start - 6, py + 4, label, anchor="end") for py, label in ticks]
    parts += [f'<line x1="{x(t):.1f}" x2="{x(t):.1f}" y1="{base:.1f}" y2="{base + 4:.1f}" stroke="var(--faint)"/>'
              + text(x(t), base + 17, f"{t:g}", anchor="middle") for t in at]
    parts.append(f'<line x1="{start:.1f}" x2="{right:.1f}" y1="{base:.1f}" y2="{base:.1f}" stroke="var(--faint)"/>')
    path = "L".join(f"{x(s):.1f},{y(v):.1f}" for s, v in thinned(curve))
    parts.append(f'<path d="M{path}" fill="none" stroke="{COLORS[0]}" stroke-width="1.6"/>'
                 f'<circle cx="{x(steps[-1]):.1f}" cy="{y(values[-1]):.1f}" r="3" fill="{COLORS[0]}"/>')
    parts.append(text((start + right) / 2, base + 33, STEPS, anchor="middle"))
    parts.append(text(left, base + 52, f"{values[0]:.3g} → {values[-1]:.3g}, from {low:.3g} to {high:.3g}"))
    return "".join(parts)


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
