"""Texts of rows are shown and never live: checked with a CommonMark parser."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from cai_assets.reports.escape import fenced, inline, shorten, visible

PARSER = MarkdownIt("commonmark").enable(["table", "strikethrough"])
HOSTILE = [
    "![x](http://evil.example/a.png)", "[click](javascript:alert(1))", "<img src=x onerror=alert(1)>", "<script>",
    "`code`", "a | b | c", "**bold**", "~~gone~~", "<http://evil.example>", "&lt;b&gt;", "# title",
    "![a][b]", "\\[x](y)", "[x]: http://evil.example", "_em_", "line\n\n# heading\n- item",
]


def live(markdown):
    """Everything but text in the parsed markdown."""
    children = [c for token in PARSER.parse(markdown) for c in token.children or []]
    return [c.type for c in children if c.type not in ("text", "text_special", "softbreak")]


def shown(markdown):
    return "".join(c.content for token in PARSER.parse(markdown) for c in token.children or [])


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_markdown_is_shown_as_it_was_written(text):
    line = inline(text)
    assert live(f"x {line}") == []
    assert shown(f"x {line}") == "x " + " ".join(text.split())


@given(st.text(st.sampled_from("![]()<>`*_~|\\#&:/@wx.\n a"), max_size=60))
def test_no_markup_at_all_comes_alive(text):
    assert live(f"x {inline(text)}") == []


@pytest.mark.parametrize("text", ["see https://evil.example", "www.evil.example", "me@evil.example", "WWW.evil.org"])
def test_bare_addresses_do_not_become_links(text):
    assert not re.search(r"https?://|www\.|\w@", inline(text), re.IGNORECASE)


@pytest.mark.parametrize(("text", "expected"), [
    ("a\u202eb", "a\\u202eb"), ("\x00\x1b[31m", "\\u0000\\u001b[31m"), ("\u2028", "\\u2028"), ("\u200b", "\\u200b"),
    ("tab\tand\nline", "tab\tand\nline"), ("win\r\ndows", "win\ndows"), ("bad\ud800", "bad\\ud800"),
    ("é 漢 🙂", "é 漢 🙂"), ("\U000e0041", "\\ue0041"),
])
def test_what_cannot_be_seen_is_written_out(text, expected):
    assert visible(text) == expected


@given(st.text(), st.integers(1, 50))
def test_shortened_texts_keep_to_the_limit(text, limit):
    assert len(shorten(text, limit)) <= limit
    assert shorten(text, len(text)) == text


@given(st.text(st.sampled_from("`~\n abc"), max_size=80))
def test_nothing_closes_a_fence_from_inside(text):
    tokens = PARSER.parse(fenced(text, "diff") + "\n\nafter")
    assert [t.type for t in tokens] == ["fence", "paragraph_open", "inline", "paragraph_close"]
    assert tokens[0].content == text + "\n"
