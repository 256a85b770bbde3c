"""Reasons of revisions: keyed rows that cite the drawn principle, and what SFT learns in place of thoughts."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from cai_assets.constitution.model import Constitution, Principle
from cai_assets.engines.protocol import Call, Request
from cai_assets.engines.scripted import Scripted
from cai_assets.settings import Critique, Generation, Supervised
from cai_assets.steps.complete import Completer
from cai_assets.steps.critique import critique_and_revise
from cai_assets.steps.reason import COLUMNS, with_reasons
from cai_assets.steps.supervised import sl_dataset
from cai_assets.steps.usage import Usage
from cai_assets.store.layout import Layout
from cai_assets.store.row_store import RowStore

PROMPTS = pl.DataFrame([{"prompt_id": f"q{i}", "messages": [{"role": "user", "content": f"Question {i}?"}],
                         "response": f"Answer {i}.", "error": None, "row_id": f"i1:{i}", "split": "train",
                         "kind": "red-team", "finish": "stop"} for i in range(6)],
                       schema_overrides={"error": pl.String})


def constitution(text: str = "Revise by 0.") -> Constitution:
    return Constitution(name="c", version="v1", principles=tuple(
        Principle(id=f"p{i}", critique=f"Critique by {i}.", revision=text if i == 0 else f"Revise by {i}.")
        for i in range(2)))


def write(call: Call, request: Request) -> str:
    return f"written {request.seed}"


def made(root: Path, principles: Constitution, usage: dict[str, Usage]) -> tuple[pl.DataFrame, list[str]]:
    complete = Completer(Scripted(reply=write), RowStore(Layout(root)), seed=0, usage=usage)
    critiques, revisions = critique_and_revise(PROMPTS, principles, complete=complete, generation=Generation(),
                                               settings=Critique(rounds=2, style="plain"))
    found = with_reasons(revisions, critiques, PROMPTS, principles, complete=complete, style="plain",
                         generation=Generation())
    assert found.drop(COLUMNS).equals(revisions)
    return found, critiques["critique"].to_list()


def test_each_revision_has_a_reason_that_cites_its_principle(tmp_path: Path) -> None:
    usage: dict[str, Usage] = {}
    revisions, critiques = made(tmp_path, constitution(), usage)
    assert usage["reason"].generated == revisions.height == 12
    for row in revisions.iter_rows(named=True):
        assert row["reason"].startswith(f"By the principle {row['principle_id']}, written")
    stored = RowStore(Layout(tmp_path)).lookup("reason", revisions["row_key_reason"].to_list())
    for row, critique in zip(revisions.iter_rows(named=True), critiques, strict=True):
        payload = stored[row["row_key_reason"]].payload
        assert row["revision"] in payload
        assert critique in payload


def test_an_edited_principle_asks_for_its_own_reasons_alone(tmp_path: Path) -> None:
    made(tmp_path, constitution(), {})
    again: dict[str, Usage] = {}
    revisions, _ = made(tmp_path, constitution(), again)
    assert again["reason"].reused == 12
    edited: dict[str, Usage] = {}
    changed, _ = made(tmp_path, constitution("Revise otherwise."), edited)
    same = revisions["row_key_reason"].is_in(changed["row_key_reason"].to_list())
    untouched = revisions.group_by("prompt_id").agg(pl.col("principle_id").eq("p0").any()).filter(
        ~pl.col("principle_id"))["prompt_id"].to_list()
    assert 0 < edited["reason"].generated <= 12
    assert all(same.filter(revisions["prompt_id"].is_in(untouched)))


def test_reasons_take_the_place_of_all_thoughts_in_the_data(tmp_path: Path) -> None:
    revisions, _ = made(tmp_path, constitution(), {})
    helpful = PROMPTS.with_columns(kind=pl.when(pl.col("prompt_id") == "q0").then(pl.lit("helpful")).otherwise("kind"),
                                   thought=pl.lit("of the generator"), thought_state=pl.lit("valid"))
    rows = sl_dataset(helpful, revisions.filter(pl.col("prompt_id") != "q0"), Supervised(thoughts="reasons"))
    own = rows.filter(pl.col("round") > 0)
    assert own["thought"].str.starts_with("By the principle p").all()
    assert rows.filter(pl.col("round") == 0)["thought"].to_list() == [None]
    masked = sl_dataset(PROMPTS, revisions, Supervised())
    assert "thought" not in masked.columns, "the model that wrote them keeps none"
