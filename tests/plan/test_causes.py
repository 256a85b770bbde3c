from __future__ import annotations

import polars as pl

from cai_assets.constitution.draw import critique_key, draw
from cai_assets.constitution.model import Constitution, FewShots, Principle, RevisionShot
from cai_assets.plan.causes import NEVER, drawn_before, row_causes, setting_changes
from cai_assets.store.records import Record

HARM = Principle(id="harm", critique="Identify harm.", revision="Remove harm.")
LIES = Principle(id="lies", critique="Identify lies.", revision="Remove lies.")
BEFORE = Constitution(name="mild", version="v1", principles=(HARM, LIES))
NOW = Constitution(name="mild", version="v2", principles=(
    HARM.model_copy(update={"critique": "Identify all harm."}), LIES, LIES.model_copy(update={"id": "fraud"})))
ROWS = pl.DataFrame({"principle_id": ["harm", "lies", "harm", "fraud"]})
SETTING = "generation.max_tokens: 16 -> 24"


def test_principles_explain_rows_when_no_setting_changed() -> None:
    assert row_causes(ROWS, [], BEFORE, NOW, "critique") == {
        "principle fraud (added)": 1, "principle harm (edited)": 2, f"principle lies (unchanged; {NEVER})": 1}


def test_a_row_counts_for_all_calls_that_wait_with_it() -> None:
    rows = ROWS.with_columns(calls=pl.Series([1, 2, 3, 4]))
    assert row_causes(rows, [], BEFORE, NOW, "critique") == {
        "principle fraud (added)": 4, "principle harm (edited)": 4, f"principle lies (unchanged; {NEVER})": 2}
    assert row_causes(rows, [SETTING], BEFORE, BEFORE, "critique")[SETTING] == 10


def test_a_draw_that_moved_is_told_from_a_row_that_was_never_generated() -> None:
    alone = BEFORE.model_copy(update={"principles": (LIES,)})
    rows = pl.DataFrame({"prompt_id": [f"p{i}" for i in range(20)], "principle_id": ["lies"] * 20})
    rows = drawn_before(rows, BEFORE, "critique", lambda row: critique_key(row["prompt_id"], 1))
    harm = sum(draw(BEFORE.principles, critique_key(f"p{i}", 1)).id == "harm" for i in range(20))
    assert 0 < harm < 20
    assert row_causes(rows, [], BEFORE, alone, "critique") == {
        "principle lies (drawn in place of another)": harm, f"principle lies (unchanged; {NEVER})": 20 - harm}


def test_edited_examples_are_named() -> None:
    shot = RevisionShot(prompt="p", response="r", critique_request="c?", critique="c", revision_request="r?",
                        revision="better")
    shown = BEFORE.model_copy(update={"few_shots": FewShots(revision=(shot,))})
    assert row_causes(ROWS[1:2], [], BEFORE, shown, "critique") == {"principle lies (the few-shot examples were "
                                                                    "edited)": 1}


def test_a_setting_and_a_principle_that_changed_together_are_both_named() -> None:
    assert row_causes(ROWS, [SETTING], BEFORE, NOW, "critique") == {
        SETTING: 4, "principle fraud (added)": 1, "principle harm (edited)": 2}
    assert row_causes(ROWS.head(3), [SETTING], BEFORE, BEFORE, "critique") == {SETTING: 3}


def test_nothing_missing_has_no_cause() -> None:
    assert row_causes(ROWS.clear(), [SETTING], BEFORE, NOW, "critique") == {}


def test_the_seed_is_a_setting_of_whatever_samples() -> None:
    record = Record(asset="critiques", partition="a", digest="t1:0", path="x", settings={"critique": {"rounds": 2}},
                    details={"seed": 0})
    now = {"seed": 3, "critique": {"rounds": 4}, "rl": {"beta": 1}}
    assert setting_changes(record, now) == ["critique.rounds: 2 -> 4", "seed: 0 -> 3"]
    assert setting_changes(record.model_copy(update={"settings": {}}), now) == []
    assert setting_changes(record.model_copy(update={"details": {}}), now) == ["critique.rounds: 2 -> 4"]
