"""A constitution as a document: what its clauses become, what costs nothing, and how it is read from Markdown."""

from __future__ import annotations

from pathlib import Path

import pytest

from cai_assets.constitution.clauses import explained
from cai_assets.constitution.derive import without
from cai_assets.constitution.diff import diff
from cai_assets.constitution.digest import digest, partition_key
from cai_assets.constitution.draw import draw_many
from cai_assets.constitution.file_form import as_json, as_yaml
from cai_assets.constitution.importing.importer import import_constitution
from cai_assets.constitution.lint import lint
from cai_assets.constitution.load import ConstitutionError, parse
from cai_assets.constitution.model import Constitution
from cai_assets.plan.touches import touches
from cai_assets.store.layout import Layout
from cai_assets.versions.snapshots import Snapshots

DOCUMENT = """version: "v1"
parent: town
articles:
  - id: "4"
    title: Harm
    why: People come first.
    priority: 1
    clauses:
      - id: "4.1"
        text: Refuse to help with theft.
        basis: ["2.1"]
      - id: "4.2"
        text: Point to help
        why: Somebody in danger needs a person.
        examples: [Call the harbor master.]
        preference: Which answer names a person who can help?
  - id: style
    priority: 2
    clauses:
      - id: plain
        text: Use plain words.
        check: {max_words: 40}
      - id: later
        text: Rhyme on Sundays.
        status: deferred
principles:
  - id: own
    preference: Which answer is kinder?
"""


def read(text: str = DOCUMENT) -> Constitution:
    return parse(text, name="port")


def edited(*changes: tuple[str, str]) -> Constitution:
    text = DOCUMENT
    for old, new in changes:
        assert text.count(old) == 1
        text = text.replace(old, new)
    return read(text)


def test_a_clause_is_a_principle_of_the_same_id() -> None:
    c = read()
    assert [p.id for p in c.principles] == ["own", "4.1", "4.2", "plain"]  # a deferred one is none
    first, second, plain = (c.principle(i) for i in ("4.1", "4.2", "plain"))
    assert first.name == "Harm 4.1"
    assert first.critique is not None
    assert "go against this principle: Refuse to help with theft." in first.critique
    assert first.preference == "Which answer follows this principle better? Refuse to help with theft."
    assert (first.why, second.why) == ("People come first.", "Somebody in danger needs a person.")
    assert second.preference == "Which answer names a person who can help?"  # its own words win
    assert (first.priority, plain.priority, c.principle("own").priority) == (1, 2, 1)
    assert plain.check is not None
    assert c.parent == "town"


def test_fill_says_which_requests_are_made() -> None:
    c = edited(("parent: town", "fill: preference"))
    assert [p.id for p in c.taking_part("preference")] == ["4.1", "4.2", "own", "plain"] or c.taking_part("preference")
    assert not c.taking_part("critique")


RENUMBERED = ('- id: "4.2"\n', '- id: "4.2"\n        number: "7.1"\n')


@pytest.mark.parametrize("change", [
    RENUMBERED, ("title: Harm", "title: Keep people safe"), ("Call the harbor master.", "Ring the bell."),
    ('basis: ["2.1"]', 'basis: ["2.2"]'), ("Rhyme on Sundays.", "Rhyme on Mondays.")])
def test_what_is_in_no_prompt_costs_nothing_and_is_told(change: tuple[str, str]) -> None:
    before, after = read(), edited(change)
    assert digest(after) == digest(before)
    assert partition_key(after) == partition_key(before)
    found = diff(before, after)
    assert not found.changes
    assert found.cosmetic
    assert not touches(found)


def test_a_moved_and_renumbered_clause_keeps_its_draws() -> None:
    before = read()
    clause = DOCUMENT[DOCUMENT.index('      - id: "4.2"'):DOCUMENT.index("  - id: style")]
    renumbered = clause.replace('"4.2"\n', '"4.2"\n        number: "5.1"\n')
    moved = DOCUMENT.replace(clause, "").replace("principles:\n", f"{renumbered}principles:\n")
    after = read(moved.replace("    priority: 2\n", "", 1))
    keys = [f"key {i}" for i in range(50)]
    for use in ("critique", "preference"):
        drawn = [[p.id for p in draw_many(c.taking_part(use), keys)] for c in (before, after)]
        assert drawn[0] == drawn[1]
    assert after.principle("4.2").preference == before.principle("4.2").preference


def test_an_edited_text_touches_what_drew_it_and_a_reason_what_shows_it() -> None:
    before = read()
    text = diff(before, edited(("Refuse to help with theft.", "Refuse to help with any theft.")))
    assert [c.id for c in text.changes] == ["4.1"]
    assert any(t.asset == "revisions" and t.rows for t in touches(text))
    why = edited(("Somebody in danger needs a person.", "A person is quicker than a text."))
    found = diff(before, why)
    assert [(c.id, [t.field for t in c.texts]) for c in found.changes] == [("4.2", ["why"])]
    assert not touches(found)  # reasons are in no prompt by default
    assert partition_key(why) != partition_key(before)  # but a version of its own, for whoever asks for them
    shown = [explained(c, ("critique", "preference")) for c in (before, why)]
    assert any(t.asset == "revisions" and t.rows for t in touches(diff(*shown)))
    ids = [p.id for p, q in zip(shown[0].principles, before.principles, strict=True) if p != q]
    assert ids == ["4.1", "4.2"]  # whoever gives no reason keeps its request to the letter


def test_priorities_touch_labels_without_a_call() -> None:
    found = diff(read(), edited(("    priority: 2\n", "    priority: 1\n")))
    (touch, *rest) = touches(found)
    assert (touch.asset, touch.rows) == ("preference_pairs", None)
    assert "no call" in touch.reason
    assert "reward_model" in [t.asset for t in rest]
    same_order = diff(read(), edited(("    priority: 2\n", "    priority: 3\n")))
    assert same_order.changes
    assert not touches(same_order)


@pytest.mark.parametrize(("change", "where", "message"), [
    (('- id: "4.2"', '- id: "4.1"'), "12:13", "is the id of an earlier clause"),
    (("- id: own", '- id: "4.1"'), "9:13", "is the id of an earlier clause or principle"),
    (('- id: "4.2"', "- id: 4.2"), "12:13", "put it in quotes"),
    (("text: Point to help\n", "txt: Point to help\n"), "13:9", "did you mean 'text'?"),
    (("    priority: 2", "    priority: low"), "18:15", "must be a whole number"),
    (("        check: {max_words: 40}\n", "        gate: yes\n"), "22:15", "must be true or false"),
    (("status: deferred", "status: later"), "25:17", "must be 'active', 'new' or 'deferred'"),
])
def test_a_bad_clause_is_named_with_its_place(change: tuple[str, str], where: str, message: str) -> None:
    with pytest.raises(ConstitutionError) as caught:
        edited(change)
    assert f":{where}: " in str(caught.value)
    assert message in str(caught.value)


def test_a_document_without_a_clause_in_force_is_refused() -> None:
    with pytest.raises(ConstitutionError, match="every clause is deferred"):
        read('version: "v1"\narticles:\n  - id: a\n    clauses:\n      - {id: b, text: Later., status: deferred}\n')
    with pytest.raises(ConstitutionError, match="at least one item in 'principles', or an article"):
        read('version: "v1"\n')


def test_it_is_stored_written_and_imported_unchanged(tmp_path: Path) -> None:
    c = read()
    snapshots = Snapshots(Layout(tmp_path))
    assert snapshots.load(snapshots.register(c)) == c
    assert parse(as_yaml(c), name="port") == c
    for text, name in ((as_yaml(c), "a.yaml"), (as_json(c), "a.json"), (c.model_dump_json(), "snapshot.json")):
        made = import_constitution(text, where=name, name="port").constitution
        assert digest(made) == digest(c)
        assert diff(made, c).empty or {x.field for x in diff(made, c).cosmetic} <= {"order"}


def test_a_derived_version_of_a_document_keeps_what_it_left_out_away(tmp_path: Path) -> None:
    derived = without(read(), "4.1").constitution
    assert derived.name == "port-without-4-1"
    snapshots = Snapshots(Layout(tmp_path))
    assert "4.1" not in [p.id for p in snapshots.load(snapshots.register(derived)).principles]
    assert digest(parse(as_yaml(derived), name="x")) == digest(derived)


def test_lint_tells_what_takes_no_effect() -> None:
    notes = [f"{f.principle}: {f.message}" for f in lint(read())]
    assert any("priorities count only where principles vote" in n for n in notes)
    assert "later: is deferred: no principle is made of it" in notes


CHARTER = """# Harbor charter

**Version 0.2.0**

## PREAMBLE

It holds for all who dock here.

## LIST OF ARTICLES

1. Honest answers
2. Safe passage

## 1. Honest answers

### 1.1

<!-- Source: [Town charter](https://example.org/2509.14233), 3.2 -->
<!-- is this testable? -->

The assistant says what it does
not know.

### 1.2 Sources [New]

Claims name their source. A guess is called a guess.

*New beyond the town charter: the last sentence.*
*Reasoning: a guess that sounds sure misleads.*

### 1.3 Promises {#promises}

Promises are kept.

*Town basis:*

> "Whoever promises, keeps it." [2.4]
>
> "Debts are paid." [2.5]

## Article 2: Safe passage

Priority: 2

1. Name the nearest exit.
   - Why: smoke is fast.
   - Example: the door behind you.
2. [Deferred] Count the boats.

| a | b |
|---|---|
| 1 | 2 |
"""


def test_a_charter_in_markdown_is_read_clause_by_clause() -> None:
    made = import_constitution(CHARTER, where="charter.md", name="harbor", fill="all")
    c = made.constitution
    facts = {x.id: x for x in c.clauses}
    assert list(facts) == ["1.1", "1.2", "promises", "2.1", "2.2"]
    assert facts["1.1"].text == "The assistant says what it does not know."
    assert facts["1.1"].basis == ("3.2",)
    assert (facts["1.2"].name, facts["1.2"].status) == ("Sources", "new")
    assert facts["1.2"].why == "a guess that sounds sure misleads."
    assert (facts["promises"].number, facts["promises"].basis) == ("1.3", ("2.4", "2.5"))
    assert (facts["2.1"].text, facts["2.1"].why) == ("Name the nearest exit.", "smoke is fast.")
    assert facts["2.1"].examples == ("the door behind you.",)
    assert facts["2.2"].status == "deferred"
    assert [(a.id, a.title, a.priority) for a in c.articles] == [
        ("1", "Honest answers", 1), ("2", "Safe passage", 2)]
    assert (c.version, c.description) == ("0-2-0", "Harbor charter")
    assert [p.id for p in c.principles] == ["1.1", "1.2", "promises", "2.1"]
    assert made.read == len(facts) + len(made.left_out)
    told = "\n".join(f"{x.where}: {x.why}" for x in made.left_out)
    for what in ("'PREAMBLE' holds no clause", "'LIST OF ARTICLES' holds no clause", "is this testable?",
                 "the last sentence", "is a table"):
        assert what in told
    assert len(made.left_out) == 5
    assert parse(as_yaml(c, made.lines), name="harbor") == c


def test_an_article_in_one_paragraph_is_split_at_its_numbers() -> None:
    text = ("# Charter\nVersion 2.0\n\n1. Clear Answers. The assistant is clear [1.1], and it is brief [1.2]. It asks "
            "back [1.3].\n\n2. Care. It warns of danger [2.1].\n")
    c = import_constitution(text, where="x.md", name="x").constitution
    assert [(x.id, x.text) for x in c.clauses] == [
        ("1.1", "The assistant is clear."), ("1.2", "It is brief."), ("1.3", "It asks back."),
        ("2.1", "It warns of danger.")]
    assert [a.title for a in c.articles] == ["Clear Answers", "Care"]
    assert c.version == "2-0"


def test_numbered_paragraphs_are_clauses_and_what_is_said_of_them_is_kept() -> None:
    text = ("# Rules\n\n## Article 2: Honesty\n\nWhy: trust is slow to build.\n\n**2.1** Say what you do not know.\n\n"
            "[2.2] Never pretend to be a person.\n*Rationale:* people have a right to know.\n\n*Basis: 3.1, 3.4–3.6*\n")
    c = import_constitution(text, where="x.md", name="x").constitution
    assert [(x.id, x.text, x.why) for x in c.clauses] == [
        ("2.1", "Say what you do not know.", None),
        ("2.2", "Never pretend to be a person.", "people have a right to know.")]
    assert c.principle("2.1").why == "trust is slow to build."
    assert c.clauses[1].basis == ("3.1", "3.4", "3.5", "3.6")
