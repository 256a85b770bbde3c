"""Report pages: self-contained, escaped, and drawn from what is known only."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from xml.etree import ElementTree

import pytest

from cai_assets.evals.statistics import Estimate
from cai_assets.reports.html.page import Diff, Figure, Section, Table, Text, page
from cai_assets.reports.html.plots import Point, intervals, lines, scatter

HOSTILE = '<img src="http://evil.example/x" onerror=alert(1)>\u202e'


class Tags(HTMLParser):
    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.open.append(tag)
        self.attributes += attrs


def everything() -> str:
    known = Estimate(0.5, 10, 0.3, 0.7)
    figure = Figure(intervals({HOSTILE: known}, axis=HOSTILE), HOSTILE, HOSTILE, HOSTILE)
    blocks = [Table(HOSTILE, [HOSTILE, "n"], [[HOSTILE, 3], [None, 0.123456]]), figure, Text(HOSTILE),
              Diff(HOSTILE, HOSTILE, "other"), Text(HOSTILE, code=True)]
    return page(HOSTILE, [Section(HOSTILE, blocks), Section("Empty", [])], summary=[HOSTILE], footer=HOSTILE)


def test_a_page_needs_nothing_from_elsewhere_and_runs_nothing() -> None:
    tags = Tags(everything())
    assert not {"script", "img", "link", "iframe", "object"} & set(tags.open)
    links = [v for k, v in tags.attributes if k in {"href", "src", "xlink:href"}]
    assert links
    assert all(v is not None and v.startswith("#") for v in links)
    assert not any(k.startswith("on") for k, _ in tags.attributes)
    assert "\u202e" not in everything()
    assert "@import" not in everything()


def test_tables_have_captions_and_scopes_and_empty_sections_are_left_out() -> None:
    html = everything()
    assert len(re.findall("<caption>", html)) == 1
    assert 'scope="col"' in html
    assert 'scope="row"' in html
    assert "0.123<" in html
    assert ">–<" in html
    assert 'id="empty"' not in html
    assert "prefers-color-scheme: dark" in html


def test_a_diff_shows_words_out_and_in() -> None:
    parts = list(Diff("t", "the cat sat", "the dog sat").parts())
    assert parts == [("equal", "the "), ("delete", "cat"), ("insert", "dog"), ("equal", " sat")]


def test_plots_draw_known_values_only_and_are_sound_xml() -> None:
    known, unknown = Estimate(0.5, 10, 0.3, 0.7), Estimate(None, 0)
    plots = [intervals({"a": known, "b & <c>": known, "gone": unknown}, axis="rate", line=0.5, bounds=(0, 1)),
             lines({"a": [known, unknown, known], "b": [unknown]}, x_axis="round", y_axis="rate"),
             scatter([Point("v1", known, known), Point("v2", unknown, known)], x_axis="x", y_axis="y", diagonal=True)]
    for svg, circles in zip(plots, (2, 2, 1), strict=True):
        root = ElementTree.fromstring(svg)
        assert len([e for e in root.iter() if e.tag == "circle"]) == circles
        assert "gone" not in svg


@pytest.mark.parametrize("value", [0.0, -3.0, 1e6])
def test_a_single_value_without_an_interval_is_drawn(value: float) -> None:
    assert "circle" in intervals({"a": Estimate(value, 1)}, axis="x")


def test_a_plot_without_values_says_so() -> None:
    assert "No values" in intervals({"a": Estimate(None, 0)}, axis="x")
    assert "No values" in lines({}, x_axis="x", y_axis="y")
