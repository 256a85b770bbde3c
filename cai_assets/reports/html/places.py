"""Where the labels of points go, so that none lies on another label or on a point."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

HEIGHT = 13.0
Box = tuple[float, float, float, float]  # left, top, right, bottom
Place = tuple[float, float]


def label_places(centers: Sequence[Place], widths: Sequence[float], frame: Box) -> list[Place]:
    """For each point the left end of its label's base line: the nearest place that is free, in the order given."""
    points = [(cx - 6, cy - 6, cx + 6, cy + 6) for cx, cy in centers]
    taken: list[Box] = []
    out = []
    for (cx, cy), width in zip(centers, widths, strict=True):
        box = min(enumerate(_candidates(cx, cy, width)), key=lambda c: (_clash(c[1], taken, points, frame), c[0]))[1]
        taken.append(box)
        out.append((box[0], box[3] - 3))
    return out


def _candidates(cx: float, cy: float, width: float) -> Iterator[Box]:
    """Right and left above, right and left below, then farther out."""
    for step in (0, 1, 2, 3, 4, 5):
        for left in (cx + 8, cx - 8 - width):
            for top in (cy - 5 - HEIGHT - step * HEIGHT, cy + 5 + step * HEIGHT):
                yield left, top, left + width, top + HEIGHT


def _clash(box: Box, taken: Sequence[Box], points: Sequence[Box], frame: Box) -> float:
    outside = sum(max(0.0, x) for x in (frame[0] - box[0], frame[1] - box[1], box[2] - frame[2], box[3] - frame[3]))
    return sum(_shared(box, other) for other in (*taken, *points)) + 100 * outside


def _shared(a: Box, b: Box) -> float:
    return max(0.0, min(a[2], b[2]) - max(a[0], b[0])) * max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
