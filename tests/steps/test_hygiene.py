"""Hygiene: planted faults are found, each by its kind alone, and clean data raises nothing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest

from cai_assets.constitution.load import load_file
from cai_assets.steps import hygiene
from cai_assets.steps.hygiene import KINDS, Tables, inspect
from cai_assets.steps.prompts import load_prompts
from cai_assets.store.tables import Held

CONSTITUTION = load_file(Path(__file__).parents[2] / "constitutions" / "harmlessness.yaml")
PRINCIPLE = CONSTITUTION.taking_part("critique")[0]
TOPICS = ("kites", "bridges", "bees", "clocks", "soup", "maps", "ropes", "ferns", "glass", "chess", "tides", "wool",
          "drums", "salt", "moss", "lamps", "coins", "ice", "sails", "honey")
STARTS = ("Please read up on {0} first", "Many people ask about {0}", "With {0} it pays to be careful",
          "A friend who knows {0} could help", "Safety matters when you handle {0}", "Try a course on {0} nearby")
SAID = ("It gives {0} no thought and could lead someone into danger.", "One claim about {0} is wrong and hurtful.",
        "Nobody reading this about {0} learns where to find help.", "Parts on {0} sound cruel towards other people.",
        "A careless reader might copy the steps on {0}.", "Its tone about {0} is harsh, and the risk goes unsaid.")


def tables(critiques: dict[int, str] | None = None, revisions: dict[int, str] | None = None,
           responses: dict[int, str] | None = None, cut: tuple[int, ...] = (), general: dict[int, str] | None = None,
           ) -> Tables:
    """Clean data of 20 prompts with some texts put in by number."""
    asked, said, revised, sl = [], [], [], []
    for i, topic in enumerate(TOPICS):
        before = (responses or {}).get(i, f"Anyone can do {topic} quickly, just grab {TOPICS[i - 1]} and go.")
        critique = (critiques or {}).get(i, SAID[i % 6].format(topic))
        revision = (revisions or {}).get(i, STARTS[i % 6].format(topic) + f", and ask a person about {TOPICS[i - 2]}.")
        finish = "length" if i in cut else "stop"
        row = {"prompt_id": f"q{i:02d}", "round": 1, "principle_id": PRINCIPLE.id, "finish": finish}
        messages = [{"role": "user", "content": f"How do I break {topic}?"}]
        asked.append({"prompt_id": row["prompt_id"], "messages": messages})
        said.append({**row, "critique": critique, "row_id": f"c{i}"})
        revised.append({**row, "before": before, "revision": revision, "row_id": f"v{i}"})
        sl.append({**row, "response": (general or {}).get(i, revision), "row_id": f"s{i}"})
    return Tables(*(Held(pl.DataFrame(rows)) for rows in (asked, said, revised, sl)), CONSTITUTION)


def hits(found: Tables) -> dict[tuple[str, str], list[str]]:
    return {(f.kind, f.table): [row for row, _ in f.examples] for f in inspect(found) if f.found}


def test_clean_data_raises_nothing() -> None:
    findings = inspect(tables())
    assert [f for f in findings if f.found or f.above] == []
    assert {f.kind for f in findings} == set(KINDS)
    assert all(f.rows == 20 for f in findings)


def test_the_bundled_examples_are_clean() -> None:
    """Critiques and revisions that a person wrote, and the bundled prompts as if they were answers."""
    shots = CONSTITUTION.few_shots.revision
    found = tables(dict(enumerate(s.critique for s in shots)), dict(enumerate(s.revision for s in shots)))
    assert {kind for kind, _ in hits(found)} <= {"request_echo", "boilerplate"}  # they are the examples themselves
    texts = [m[-1]["content"] for m in load_prompts((), max_chars=8000).frame["messages"].to_list()]
    found = tables(revisions=dict(enumerate(texts[:20])), critiques=dict(enumerate(texts[-20:])))
    assert not {kind for kind, _ in hits(found)} & {"prefix_leakage", "request_echo", "truncation"}


@pytest.mark.parametrize("lead", [
    "Better answer: Ask a doctor.", "Revision request: be kind", "**Revised response:** Ask a doctor.",
    "Here is a revised version of the response that is kinder.", "Sure! Here's the rewritten answer: ask a doctor.",
    "Here is my improved answer", "Critique: it was rude.", "Assistant: Ask a doctor.", "\n> Revision: ask.",
    "Below is an updated, safer text."])
def test_what_a_revision_begins_with(lead: str) -> None:
    assert hits(tables(revisions={3: lead}))["prefix_leakage", "revisions"] == ["v3"]


@pytest.mark.parametrize("fine", [
    "Here is a list of ways to stay calm.", "The answer depends on where you live.", "This is a serious matter.",
    "I'm sorry, but I can't help with that.", "Human beings need sleep.", "Here are some ideas for a better day.",
    "This text explains how to sail."])
def test_what_a_revision_may_begin_with(fine: str) -> None:
    assert hits(tables(revisions={3: fine})) == {}


def test_frame_headings_are_found_in_every_table_but_lead_ins_in_revisions_only() -> None:
    general = {2: "Question: why?", 5: "Here is a rewritten text."}
    found = hits(tables(critiques={1: "Better answer: Ask."}, general=general))
    assert found["prefix_leakage", "critiques"] == ["c1"]
    assert found["prefix_leakage", "sl_dataset"] == ["s2"]


@pytest.mark.parametrize(("table", "text"), [
    ("revisions", "The response is harmful because it helps a thief."),
    ("revisions", "The assistant's last response should not have said so."),
    ("revisions", "My previous answer was unkind, and here is why."),
    ("revisions", "As the user, I would have liked more detail."),
    ("critiques", "I asked how to do it and want to know now."), ("critiques", "Thank you for your answer!"),
    ("critiques", "I'm sorry, but I can't help with that."), ("critiques", "Sure, first take a ladder."),
    ("critiques", "Here is a revised answer: take care."),
])
def test_confused_points_of_view(table: str, text: str) -> None:
    planted = tables(**{table: {4: text}})
    assert hits(planted)["point_of_view", table] == [f"{table[0] if table == 'critiques' else 'v'}4"]


def test_a_revision_that_is_its_own_critique_is_confused() -> None:
    planted = tables(revisions={4: SAID[4].format(TOPICS[4]).upper()})
    assert hits(planted)["point_of_view", "revisions"] == ["v4"]


def test_the_same_opening_in_many_prompts_is_boilerplate() -> None:
    same = {i: f"I am not able to help with {TOPICS[i]}, since it is wrong." for i in range(5)}
    found = hits(tables(revisions=same))
    assert found["boilerplate", "revisions"] == ["v0", "v1", "v2"]
    four = {i: text for i, text in same.items() if i < 4}
    assert hits(tables(revisions=four)) == {}  # 4 of 20 prompts are a fifth, not more


def test_the_rounds_of_one_prompt_count_once() -> None:
    clean = tables()
    rounds = [clean.revisions.read(where=pl.col("prompt_id") == "q00").with_columns(
        round=pl.lit(r, pl.Int64), row_id=pl.lit(f"r{r}")) for r in range(2, 12)]
    more = replace(clean, revisions=Held(pl.concat([clean.revisions.read(), *rounds])))
    assert ("boilerplate", "revisions") not in hits(more)


def test_truncated_equal_and_unchanged_rows() -> None:
    before = "Anyone can do soup quickly, just grab clocks and go."
    found = hits(tables(cut=(7,), critiques={4: before.upper()}, revisions={4: before.replace(",", " ,")}))
    assert found["truncation", "critiques"] == ["c7"]
    assert found["truncation", "sl_dataset"] == ["s7"]
    assert found["critique_equals_response", "critiques"] == ["c4"]
    assert found["revision_unchanged", "revisions"] == ["v4"]
    assert not next(f for f in inspect(tables(revisions={4: before}), ["revision_unchanged"])).above


def test_an_echo_of_the_request_or_of_an_example_is_found_but_not_one_of_the_conversation() -> None:
    shot = CONSTITUTION.few_shots.revision[0]
    found = hits(tables(critiques={2: str(PRINCIPLE.critique)}, revisions={5: f"Well. {shot.revision}"}))
    assert found["request_echo", "critiques"] == ["c2"]
    assert found["request_echo", "revisions"] == ["v5"]
    quoted = tables(responses={5: shot.revision}, revisions={5: f"Well. {shot.revision}"})
    assert ("request_echo", "revisions") not in hits(quoted)


def test_a_finding_counts_rows_and_names_examples() -> None:
    (found,) = (f for f in inspect(tables(revisions={3: "Revision: x", 4: "Revision: y"}), ["prefix_leakage"])
                if f.table == "revisions")
    assert (found.found, found.rows, found.share, found.above) == (2, 20, 0.1, True)
    assert [row for row, _ in found.examples] == ["v3", "v4"]


def test_empty_tables_and_rows_without_a_text(monkeypatch: pytest.MonkeyPatch) -> None:
    clean = tables()
    none = Held(clean.critiques.read().with_columns(critique=pl.lit(None, pl.String)))
    revisions, sl_dataset = (Held(table.read().clear()) for table in (clean.revisions, clean.sl_dataset))
    empty = Tables(clean.responses, none, revisions, sl_dataset, CONSTITUTION)
    assert {(f.rows, f.found, f.share, f.above) for f in inspect(empty)} == {(0, 0, 0.0, False)}
    monkeypatch.setattr(hygiene, "MOST", 7)
    assert {f.rows for f in inspect(tables())} == {7}
