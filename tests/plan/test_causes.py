from __future__ import annotations

import polars as pl

from cai_assets.constitution.model import Constitution, Principle
from cai_assets.plan.causes import row_causes

HARM = Principle(id="harm", critique="Identify harm.", revision="Remove harm.")
LIES = Principle(id="lies", critique="Identify lies.", revision="Remove lies.")
BEFORE = Constitution(name="mild", version="v1", principles=(HARM, LIES))
NOW = Constitution(name="mild", version="v2", principles=(
    HARM.model_copy(update={"critique": "Identify all harm."}), LIES, LIES.model_copy(update={"id": "fraud"})))
ROWS = pl.DataFrame({"principle_id": ["harm", "lies", "harm", "fraud"]})
SETTING = "generation.max_tokens: 16 -> 24"


def test_principles_explain_rows_when_no_setting_changed() -> None:
    assert row_causes(ROWS, [], BEFORE, NOW, "critique") == {
        "principle fraud (added)": 1, "principle harm (edited)": 2,
        "principle lies (text unchanged: its draw moved, or the row was never generated)": 1}


def test_a_setting_and_a_principle_that_changed_together_are_both_named() -> None:
    assert row_causes(ROWS, [SETTING], BEFORE, NOW, "critique") == {
        SETTING: 4, "principle fraud (added)": 1, "principle harm (edited)": 2}
    assert row_causes(ROWS.head(3), [SETTING], BEFORE, BEFORE, "critique") == {SETTING: 3}


def test_nothing_missing_has_no_cause() -> None:
    assert row_causes(ROWS.clear(), [SETTING], BEFORE, NOW, "critique") == {}
