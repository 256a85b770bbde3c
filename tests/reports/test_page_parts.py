"""What every report page is made of: colors with contrast, plots for a telephone, labels that do not meet, diffs."""

from __future__ import annotations

import itertools
import random
import re
from importlib.resources import files
from typing import get_args
from xml.etree import ElementTree

import pytest
from pages import Page, faults

from cai_assets.evals.statistics import FEW, NOT_SEEN, Estimate, Verdict
from cai_assets.reports.compare.metrics import SAME
from cai_assets.reports.html.axes import LETTER, NARROW, WIDE
from cai_assets.reports.html.curves import MOST, describe, small_multiples, thinned
from cai_assets.reports.html.page import (
    Answer,
    Diff,
    Figure,
    Group,
    Missing,
    Passage,
    Section,
    Source,
    Table,
    Text,
    Told,
    page,
)
from cai_assets.reports.html.places import label_places
from cai_assets.reports.html.plots import Point, bars, both, intervals, lines, scatter

CSS = files("cai_assets.reports.html").joinpath("page.css").read_text(encoding="utf-8")
HOSTILE = '<img src="http://evil.example/x" onerror=alert(1)>\u202e</script>'
KNOWN = Estimate(0.5, 10, 0.3, 0.7)


def palettes() -> list[dict[str, str]]:
    """The colors of the light and of the dark page."""
    blocks = re.findall(r":root \{(.*?)\}", CSS, re.DOTALL)
    return [dict(re.findall(r"--([a-z]+): (#[0-9a-f]{6})", block)) for block in blocks]


def luminance(color: str) -> float:
    """WCAG 2.2, relative luminance."""
    parts = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(a: str, b: str) -> float:
    light, dark = sorted((luminance(a), luminance(b)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("palette", palettes(), ids=["light", "dark"])
def test_texts_and_marks_have_the_contrast_that_wcag_asks_for(palette: dict[str, str]) -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    for text, ground in itertools.product(("ink", "faint", "link", "good", "bad"), ("paper", "shade")):
        assert contrast(palette[text], palette[ground]) >= 4.5, (text, ground)
    for ground in ("out", "in"):
        assert contrast(palette["ink"], palette[ground]) >= 4.5, ground
    for mark in ("mark", "second", "third", "fourth", "faint"):
        assert contrast(palette[mark], palette["paper"]) >= 3, mark


def everything() -> str:
    drawn = both(lambda width: intervals({HOSTILE: KNOWN}, axis=HOSTILE, width=width))
    figure = Figure(drawn, HOSTILE, HOSTILE, HOSTILE, HOSTILE, HOSTILE)
    table = Table(HOSTILE, [HOSTILE, "told"], [[HOSTILE, Told("better")], [Told(HOSTILE), 12_345]], HOSTILE,
                  Source(HOSTILE, HOSTILE))
    group = Group(HOSTILE, [Passage(HOSTILE, HOSTILE, HOSTILE), Diff(HOSTILE, HOSTILE, "other"), table], folded=True)
    return page(HOSTILE, [Section("One", [table, figure, group, Missing(HOSTILE, HOSTILE), Text(HOSTILE, code=True)]),
                          Section("Two", [Text("x")], folded=True)], summary=[HOSTILE], footer=HOSTILE,
                answers=[Answer(HOSTILE, HOSTILE, Told("worse"), "One"), Answer("b?", "c")])


def test_every_block_is_escaped_and_readable_by_everybody() -> None:
    assert faults(everything()) == []
    assert "<img" not in everything()


def test_what_is_wrong_with_a_page_is_seen() -> None:
    good = everything()
    for broken, fault in ((good.replace('href="#one"', 'href="https://example.org"', 1), "https"),
                          (good.replace("<h3>", "<h5>", 1).replace("</h3>", "</h5>", 1), "h5 after h2"),
                          (good.replace("<caption>", "<p>", 1).replace("</caption>", "</p>", 1), "caption"),
                          (good.replace('aria-hidden="true" font', "font", 1), "drawing"),
                          (good.replace("<main", "<script></script><main"), "script"),
                          (good.replace('tabindex="0" role="region"', 'role="region"', 1), "no key reaches")):
        assert any(fault in f for f in faults(broken)), fault


def test_numbers_are_told_apart_and_missing_parts_named() -> None:
    text = Page(everything()).text
    assert "12,345" in text
    assert "▲ better" in text
    assert "Not made yet:" in text
    assert all(Told(word).sign for word in (*get_args(Verdict), SAME))
    assert (Told(FEW).sign, Told(NOT_SEEN).sign, Told(SAME).sign) == ("?", "=", "=")
    assert [Told(w).tone for w in ("better", "failed", "no difference seen")] == ["good", "bad", "open"]


def test_a_diff_gathers_changes_with_next_to_nothing_between_them() -> None:
    parts = list(Diff("t", "one two three four five six", "uno two tres four cinco six").parts())
    assert parts == [("delete", "one two three four five"), ("insert", "uno two tres four cinco"), ("equal", " six")]
    kept = list(Diff("t", "a long shared part stays b", "x long shared part stays y").parts())
    assert [what for what, _ in kept] == ["delete", "insert", "equal", "delete", "insert"]
    for before, after in (("", "new"), ("old", ""), ("same", "same"), ("a b c d", "b c d e")):
        got = list(Diff("t", before, after).parts())
        assert "".join(t for what, t in got if what != "insert") == before
        assert "".join(t for what, t in got if what != "delete") == after


@pytest.mark.parametrize("width", [WIDE, NARROW])
def test_plots_stay_inside_their_frame(width: int) -> None:
    wide = Estimate(0.5, 3, -4.0, 9.0)
    point = Point("a policy with a long name", KNOWN, wide)
    long = "a name that is rather long, longer than it should be"
    plots = [intervals({long: wide, "b": KNOWN}, axis="x", width=width),
             lines({"a": [KNOWN, wide, KNOWN], "b": [KNOWN] * 3}, x_axis="x", y_axis="y", line=0.5, width=width),
             scatter([point] * 12, x_axis="x", y_axis="y", quarters=(0.5, 0.5), width=width),
             bars({"a": 3.0, "b": 0.0}, unit="s", width=width),
             small_multiples({"loss": [(float(i), 1 / (i + 1)) for i in range(50)], "kl": [(0.0, 1.0), (9.0, 2.0)],
                              "reward": [(1.0, 0.0), (2.0, 0.0)]}, width=width)]
    for svg in plots:
        root = ElementTree.fromstring(svg)
        assert root.get("width") == str(width)
        height = float(str(root.get("height")))
        for e in root.iter("circle"):
            assert 0 <= float(str(e.get("cx"))) <= width
            assert 0 <= float(str(e.get("cy"))) <= height
        for e in root.iter("text"):
            length = len(e.text or "") * LETTER * 0.9
            x = float(str(e.get("x")))
            start = x - {"start": 0, "middle": length / 2, "end": length}[str(e.get("text-anchor"))]
            if e.get("transform") is None:
                assert start >= -2, (e.text, svg)
                assert start + length <= width + 12, (e.text, start, length)


def test_a_line_leaves_a_gap_where_nothing_is_known() -> None:
    svg = lines({"a": [KNOWN, Estimate(None, 0), KNOWN]}, x_axis="x", y_axis="y")
    assert len(list(ElementTree.fromstring(svg).iter("circle"))) == 2


def test_labels_keep_off_each_other_and_off_the_points() -> None:
    rng = random.Random(0)
    for _ in range(20):
        points = [(rng.uniform(80, 600), rng.uniform(40, 360)) for _ in range(6)]
        widths = [rng.uniform(30, 90) for _ in points]
        places = label_places(points, widths, (60, 10, 640, 400))
        boxes = [(x, y - 10, x + w, y + 3) for (x, y), w in zip(places, widths, strict=True)]
        for a, b in itertools.combinations(boxes, 2):
            assert a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1]


def test_a_long_curve_keeps_its_spikes() -> None:
    curve = [(float(i), 100.0 if i == 777 else 1.0) for i in range(2000)]
    short = thinned(curve)
    assert len(short) <= MOST + 2
    assert (777.0, 100.0) in short
    assert describe(curve) == "1 → 1, between 1 and 100, 2000 points"
    assert "No values" in small_multiples({"a": [(0.0, float("nan"))]})
