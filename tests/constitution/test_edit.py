"""Single texts of a file are changed, and every other byte of it stays."""

from __future__ import annotations

import difflib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cai_assets.constitution.edit import EditError, edited, texts
from cai_assets.constitution.load import parse

SHIPPED = Path(__file__).parents[2] / "constitutions" / "harmlessness.yaml"
FILE = '''# why this file is here
version: "v1"   # a label
principles:
  # the first
  - id: one
    critique: "Say what is wrong."   # quoted
    revision: |
      Line one.

      Line three.

    # about the next text
    preference: Which is better?
  - {id: two, preference: Which is shorter?}
'''


def changed_lines(before: str, after: str) -> list[str]:
    lines = difflib.ndiff(before.splitlines(), after.splitlines())
    return [line for line in lines if line[0] in "+-"]


def test_a_text_changes_and_comments_and_all_other_lines_stay() -> None:
    after = edited(FILE, {("one", "preference"): "Which one helps?"})
    assert changed_lines(FILE, after) == ["-     preference: Which is better?", "+     preference: >-",
                                          "+       Which one helps?"]


@pytest.mark.parametrize(("place", "kept"), [
    (("one", "critique"), "# quoted"), (("one", "revision"), "\n\n    # about the next text"),
    (("two", "preference"), "- {id: two,"), (("", "version"), "# a label"),
])
def test_every_style_of_text_can_be_changed(place: tuple[str, str], kept: str) -> None:
    after = edited(FILE, {place: "v2"})
    c = parse(after, name="c")
    assert kept in after
    assert (getattr(c.principle(place[0]), place[1]) if place[0] else c.version) == "v2"


def test_several_texts_of_a_shipped_file_at_once_and_back_again() -> None:
    file = SHIPPED.read_text()
    c = parse(file, name="harmlessness")
    changes = {(p.id, "preference"): f"Which answer is better for {p.id}?" for p in c.principles if p.preference}
    there = edited(file, changes)
    back = edited(there, {place: str(getattr(c.principle(place[0]), place[1])) for place in changes})
    assert parse(there, name="harmlessness") != c == parse(back, name="harmlessness")
    comments = [line for line in file.splitlines() if line.lstrip().startswith("#")]
    assert comments == [line for line in there.splitlines() if line.lstrip().startswith("#")]


@given(st.text(st.characters(exclude_categories=["Cs", "Cc"], include_characters="\n"), min_size=1, max_size=300))
def test_any_text_reads_back_as_it_was_typed_or_is_refused(text: str) -> None:
    try:
        after = edited(FILE, {("one", "critique"): text})
    except EditError:
        return
    assert texts(after)["one"]["critique"] == text.strip()


def test_windows_line_ends_stay() -> None:
    after = edited(FILE.replace("\n", "\r\n"), {("one", "preference"): "Which one helps?"})
    assert "\n" not in after.replace("\r\n", "")
    assert parse(after, name="c").principle("one").preference == "Which one helps?"


@pytest.mark.parametrize(("place", "text", "said"), [
    (("one", "evaluation"), "Which?", "one evaluation is not in the file: add it there"),
    (("three", "critique"), "Say.", "three critique is not in the file"),
    (("one", "id"), "other", "one id is not in the file"),
    (("one", "preference"), "  ", "one preference is blank: write a text"),
])
def test_what_cannot_be_changed_says_what_to_do(place: tuple[str, str], text: str, said: str) -> None:
    with pytest.raises(EditError, match=said):
        edited(FILE, {place: text})


def test_a_clause_of_a_document_is_edited_by_its_own_words_alone() -> None:
    file = """version: "v1"
articles:
  - id: a1  # the first article
    clauses:
      - {id: a1.1, text: Be kind., why: It costs nothing.}
      - id: a1.2
        text: Be brief.
        status: deferred
"""
    after = edited(file, {("a1.1", "text"): "Be kind to everyone.", ("a1.2", "text"): "Be very brief."})
    assert texts(after)["a1.1"] == {"text": "Be kind to everyone.", "why": "It costs nothing."}
    assert "# the first article" in after
    assert "status: deferred" in after
    assert "kind to everyone" in str(parse(after, name="c").principle("a1.1").preference)
