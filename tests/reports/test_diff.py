"""Diffs and previews for people: bounded, closed, complete where there is room."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from cai_assets.reports.diff import preview_table, word_diff

PARSER = MarkdownIt("commonmark").enable("table")
TEXT = st.text(st.sampled_from("`~ab !\n\u202e"), max_size=300)


def lines(markdown, sign):
    return " ".join(x[2:] for x in markdown.splitlines()[1:-1] if x.startswith(f"{sign} "))


def test_words_taken_out_and_put_in_are_marked():
    markdown = word_diff("Take a hammer and hit it", "Take a cloth and clean it")
    assert markdown.splitlines() == [
        "```diff", "  Take a", "- hammer", "+ cloth", "  and", "- hit", "+ clean", "  it", "```"]


def test_equal_texts_say_so():
    assert word_diff("same  words\there", "same words here") == "_No word changed._"
    assert word_diff("", "") == "_No word changed._"


def test_everything_new_or_everything_gone():
    assert lines(word_diff("", "brand new"), "+") == "brand new"
    assert lines(word_diff("all gone", ""), "-") == "all gone"


@given(st.lists(st.sampled_from("abcd"), max_size=12), st.lists(st.sampled_from("abcd"), max_size=12))
def test_both_texts_can_be_read_back(before, after):
    if before == after:
        return
    body = word_diff(" ".join(before), " ".join(after)).splitlines()[1:-1]
    assert [w for x in body if x[0] != "+" for w in x[2:].split()] == before
    assert [w for x in body if x[0] != "-" for w in x[2:].split()] == after


def test_a_changed_paragraph_is_visible():
    markdown = word_diff("one two", "one\n\ntwo")
    assert "+ ¶" in markdown.splitlines()


def test_long_unchanged_stretches_are_left_out():
    same = " ".join(f"w{i}" for i in range(200))
    markdown = word_diff(f"old {same} end", f"new {same} fin")
    assert "…" in markdown
    assert "w100" not in markdown
    assert "w0 " in markdown
    assert "w199" in markdown


@pytest.mark.parametrize("limit", [100, 400, 950])
def test_long_changes_are_cut_at_the_limit_and_still_closed(limit):
    markdown = word_diff("old " * 3000, "new stuff " * 3000, limit=limit)
    assert len(markdown) <= limit
    assert markdown.startswith("```diff\n")
    assert markdown.endswith("… (cut)\n```")


@given(TEXT, TEXT, st.integers(60, 500))
def test_any_texts_give_one_closed_block_within_the_limit(before, after, limit):
    markdown = word_diff(before, after, limit=limit)
    assert len(markdown) <= limit
    assert "\u202e" not in markdown
    tokens = PARSER.parse(markdown)
    assert [t.type for t in tokens] in (["fence"], ["paragraph_open", "inline", "paragraph_close"])


def test_a_preview_has_one_cell_for_each_value():
    rows = [{"prompt": "a | b\n\nc", "response": None, "rows": 3}, {"prompt": "![x](y)", "response": "z" * 500}]
    markdown = preview_table(rows)
    tokens = PARSER.parse(markdown)
    cells = [t.content for t in tokens if t.type == "inline"]
    assert cells[:3] == ["prompt", "response", "rows"]
    assert len(cells) == 9
    assert cells[3] == "a | b c"
    assert cells[4] == "–"
    assert cells[7] == "z" * 159 + "…"
    assert not [c for t in tokens for c in t.children or [] if c.type in ("image", "link_open")]


@pytest.mark.parametrize(("columns", "rows"), [(4, 3), (3, 8), (2, 1)])
def test_a_preview_of_long_texts_shows_without_a_click(columns, rows):
    markdown = preview_table([{f"column{c}": f"*word* {r} " * 400 for c in range(columns)} for r in range(rows)])
    assert 300 < len(markdown) <= 950
    assert len(markdown.splitlines()) == rows + 2


def test_a_preview_takes_the_columns_named_and_says_when_empty():
    assert preview_table([{"a": 1, "b": 2}], ["b"]).splitlines()[0] == "| b |"
    assert preview_table([]) == "_No rows._"
