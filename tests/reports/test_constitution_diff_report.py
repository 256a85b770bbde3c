"""Diffs of constitutions for people: bounded, closed, nothing live, nothing left out in silence."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from rich.console import Console

from cai_assets.constitution.diff import diff
from cai_assets.constitution.model import Constitution
from cai_assets.plan.touches import touches
from cai_assets.reports.constitution_diff import markdown, terminal, to_json

PARSER = MarkdownIt("commonmark").enable("table")
TEXT = st.text(st.sampled_from("`~[]()!<a b>\n\u202e\x1b#-+"), min_size=1, max_size=300).filter(lambda t: t.strip())


def constitution(*principles: dict[str, Any], **rest: Any) -> Constitution:
    return Constitution.model_validate({"name": "c", "version": "v1", "principles": principles, **rest})


def principle(id_: str, critique: str = "Is it harmful?", **rest: Any) -> dict[str, Any]:
    return {"id": id_, "critique": critique, "revision": "Make it better.", "preference": "Which is better?", **rest}


def shown(before: Constitution, after: Constitution, *, colors: bool = False, width: int = 100) -> str:
    found = diff(before, after)
    out = io.StringIO()
    console = Console(file=out, width=width, force_terminal=colors, color_system="standard" if colors else None)
    console.print(terminal(found, touches(found)))
    return out.getvalue()


BEFORE = constitution(*(principle(f"p{i}") for i in range(16)))
AFTER = constitution(principle("p0", "Is it very harmful?", name="Zero"), principle("p1", weight=2),
                     *(principle(f"p{i}") for i in range(2, 15)), principle("new", "Is it rude?"))


def test_markdown_shows_every_change_in_a_diff_block() -> None:
    text = markdown(diff(BEFORE, AFTER))
    assert len(text) <= 950
    assert text.startswith("1 edited, 1 re-weighted, 1 added, 1 removed, 13 unchanged, 1 cosmetic\n\n```diff\n")
    for line in ("@@ edited p0 @@", "  Is it", "+ very", "  harmful?", "@@ re-weighted p1 1 → 2 @@", "@@ added new @@",
                 "+ Is it rude?", "@@ removed p15 @@", "- Is it harmful?", "# cosmetic: p0: name"):
        assert line in text.splitlines()


def test_of_a_principle_that_was_added_what_is_as_usual_goes_without_saying() -> None:
    heavy = constitution(*BEFORE.principles, principle("heavy", weight=4))
    (change,) = diff(BEFORE, heavy).changes
    assert [t.field for t in change.texts] == ["critique", "revision", "preference", "weight"]
    assert change.texts[-1].after == "4"


def test_what_touches_most_comes_first_and_what_is_left_out_is_counted() -> None:
    shot = dict.fromkeys(("prompt", "response", "critique_request", "critique", "revision_request", "revision"), "x")
    many = (principle(f"p{i}", f"Text {i} " * 40) for i in range(15))
    after = constitution(*many, principle("p15", preference="New?"), few_shots={"revision": [shot]})
    text = markdown(diff(BEFORE, after), limit=300)
    lines = text.splitlines()
    assert len(text) <= 300
    headings = [line for line in lines if line.startswith("@@")]
    assert headings[0] == "@@ few-shot examples for revision @@"
    assert "edited p15" not in text
    assert lines[-2] == f"… and {17 - len(headings)} more changes: cai diff shows all"


def test_no_change_and_cosmetic_changes_say_so() -> None:
    assert markdown(diff(BEFORE, BEFORE)) == "no change"
    text = markdown(diff(BEFORE, BEFORE.model_copy(update={"description": "Other"})))
    assert text.startswith("16 unchanged, 1 cosmetic: nothing to recompute\n")
    assert "# cosmetic: constitution: description" in text


@given(TEXT, TEXT, TEXT, st.integers(300, 1200))
def test_any_texts_give_one_closed_block_within_the_limit(a: str, b: str, name: str, limit: int) -> None:
    before = constitution(principle("p", a), principle("q"))
    text = markdown(diff(before, constitution(principle("p", b, name=name), principle("r", a), description=b)), limit)
    assert len(text) <= limit
    assert not {"\u202e", "\x1b"} & set(text)
    tokens = [t.type for t in PARSER.parse(text)]
    assert tokens == ["paragraph_open", "inline", "paragraph_close", "fence"]


def test_the_terminal_marks_words_with_and_without_colors() -> None:
    assert "Is it {+very+} harmful?" in shown(BEFORE, AFTER)
    colored = shown(BEFORE, AFTER, colors=True)
    assert "\x1b[32m{+very+}\x1b[0m" in colored
    assert "\x1b[31m[-Is it harmful?-]\x1b[0m" in colored


def test_the_terminal_has_a_table_of_what_each_change_touches() -> None:
    text = shown(BEFORE, AFTER)
    rows = [line.split() for line in text.splitlines()]
    assert ["edited", "p0", "critiques", "22.8%", "14.7%"] in [r[:5] for r in rows]
    assert ["added", "new", "critiques", "21.5%", "13.9%"] in [r[:5] for r in rows]
    assert "as above: sl_policy, response_pairs" in text
    assert "cosmetic: no effect" in text


@given(TEXT, TEXT)
def test_no_text_acts_on_the_terminal(a: str, b: str) -> None:
    text = shown(constitution(principle("p", a)), constitution(principle("p", b)))
    assert not {"\x1b", "\u202e"} & set(text)
    assert "[bold]" in shown(constitution(principle("p", "x")), constitution(principle("p", "[bold]y[/bold]")))


@pytest.mark.parametrize(("before", "after"), [(BEFORE, BEFORE), (BEFORE, AFTER), (AFTER, BEFORE)])
def test_json_carries_everything(before: Constitution, after: Constitution) -> None:
    found = diff(before, after)
    read = json.loads(json.dumps(to_json(found, touches(found))))
    assert [c["kind"] for c in read["changes"]] == [c.kind for c in found.changes]
    assert len(read["touches"]) == len(touches(found))
    assert read["unchanged"] == found.unchanged
    if after is AFTER:
        assert read["changes"][0]["texts"] == [{
            "field": "critique", "before": "Is it harmful?", "after": "Is it very harmful?",
            "words": [["equal", "Is it "], ["insert", "very "], ["equal", "harmful? "]]}]
        assert read["cosmetic"] == [{"principle": "p0", "field": "name", "before": "", "after": "Zero"}]
        assert read["changes"][1]["weight"] == [1.0, 2.0]
