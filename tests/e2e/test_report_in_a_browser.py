"""A report page in a real browser: it opens from disk, asks for nothing, and fits a desk and a telephone."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest

from cai_assets.evals.statistics import Estimate
from cai_assets.reports.html.page import Answer, Diff, Figure, Group, Section, Source, Table, Text, Told, page
from cai_assets.reports.html.plots import Point, both, intervals, lines, scatter

pytestmark = pytest.mark.browser
KNOWN = Estimate(0.5, 30, 0.3, 0.7)
VERSION = "a-constitution-with-a-long-name-v1-0123abcd"


def written(folder: Path) -> Path:
    """A page with every kind of block, and words that cannot be broken."""
    bars = both(partial(intervals, {VERSION: KNOWN, "b": KNOWN}, axis="x"))
    points = both(partial(scatter, [Point(VERSION, KNOWN, KNOWN)] * 5, x_axis="x", y_axis="y"))
    figures = [Figure(bars, "Intervals", "t", "c", "r", "w"), Figure(points, "Points", "t"),
               Figure(both(partial(lines, {"a": [KNOWN] * 4}, x_axis="round", y_axis="wins")), "Lines", "t")]
    table = Table("A wide table", [f"column {i}" for i in range(14)], [["x" * 30] + [Told("better")] * 13],
                  source=Source(f"cai report {VERSION}", f"evaluation/{VERSION}/000001"))
    group = Group("Chain", [Diff("Round 1", "w" * 300, "v" * 300)], folded=True)
    path = folder / "page.html"
    path.write_text(page(f"Report of {VERSION}", [Section("One", [*figures, table, group, Text("c" * 300, code=True)])],
                         answers=[Answer("Is it better?", "u" * 200, Told("no difference seen"), "One")]),
                    encoding="utf-8")
    return path


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390, 320])
def test_it_opens_from_disk_and_fits(chromium: Any, tmp_path: Path, width: int, scheme: str) -> None:
    asked: list[str] = []
    view = chromium.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    view.on("request", lambda r: asked.append(r.url))
    path = written(tmp_path)
    view.goto(f"file://{path}")
    view.evaluate("document.querySelectorAll('details').forEach(d => { d.open = true })")
    assert asked == [f"file://{path}"]
    assert view.evaluate("document.documentElement.scrollWidth") <= width
    narrow = width < 640
    for kind, shown in (("wide-only", not narrow), ("narrow", narrow)):
        drawings = view.query_selector_all(f".{kind} svg")
        assert [d.is_visible() for d in drawings] == [shown] * 3
        assert all(d.bounding_box()["x"] + d.bounding_box()["width"] <= width for d in drawings if shown)
    paper = view.evaluate("getComputedStyle(document.body).backgroundColor")
    assert paper == {"light": "rgb(255, 255, 255)", "dark": "rgb(13, 17, 23)"}[scheme]
    view.close()


def test_the_keyboard_reaches_links_tables_and_folded_parts(chromium: Any, tmp_path: Path) -> None:
    view = chromium.new_page(viewport={"width": 390, "height": 900})
    view.goto(f"file://{written(tmp_path)}")
    reached = []
    for _ in range(12):
        view.keyboard.press("Tab")
        reached.append(view.evaluate("document.activeElement.className || document.activeElement.tagName"))
    assert reached[0] == "skip"
    assert {"A", "wide", "SUMMARY", "PRE"} <= set(reached)
    view.close()


def test_what_got_into_a_page_all_the_same_neither_runs_nor_asks(chromium: Any, tmp_path: Path) -> None:
    asked: list[str] = []
    path = written(tmp_path)
    smuggled = ('<script>document.title = "ran"</script>'
                '<img src="http://127.0.0.1:9/x" onerror="document.title = 1">'
                '<iframe src="http://127.0.0.1:9/y"></iframe><link rel="stylesheet" href="http://127.0.0.1:9/z">')
    path.write_text(path.read_text(encoding="utf-8").replace("<main", smuggled + "<main", 1), encoding="utf-8")
    view = chromium.new_page()
    view.on("requestfinished", lambda r: asked.append(r.url))
    view.goto(f"file://{path}")
    assert view.title() == f"Report of {VERSION}"
    assert asked == [f"file://{path}"]
    view.close()
