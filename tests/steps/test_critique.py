"""The critique and revision loop: rounds, reuse by principle, and nothing lost."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest
from oracle import Oracle

from cai_assets.constitution.model import Constitution, Principle
from cai_assets.engines.protocol import Request
from cai_assets.settings import Critique, Generation
from cai_assets.steps.complete import Completer
from cai_assets.steps.critique import critique_and_revise
from cai_assets.store.layout import Layout
from cai_assets.store.row_store import RowStore


def constitution(n: int = 16, **edits: str) -> Constitution:
    return Constitution(name="c", version="v1", principles=tuple(
        Principle(id=f"p{i}", critique=edits.get(f"p{i}", f"Critique by {i}."), revision=f"Revise by {i}.")
        for i in range(n)))


def responses(n: int) -> pl.DataFrame:
    return pl.DataFrame([{"prompt_id": f"q{i:03d}", "messages": [{"role": "user", "content": f"Question {i}?"}],
                          "response": f"Answer {i}.", "error": None, "row_id": f"i1:{i}"} for i in range(n)],
                        schema_overrides={"error": pl.String})


def run(root: Path, engine: Oracle, constitution_: Constitution, *, rounds: int = 4, n: int = 50,
        frame: pl.DataFrame | None = None, style: str = "plain") -> tuple[pl.DataFrame, pl.DataFrame]:
    return critique_and_revise(
        responses(n) if frame is None else frame, constitution_, settings=Critique(rounds=rounds, style=style),
        generation=Generation(), complete=Completer(engine, RowStore(Layout(root)), seed=0))


@pytest.mark.parametrize("style", ["plain", "chat"])
def test_each_round_revises_the_text_of_the_round_before(tmp_path: Path, style: str) -> None:
    critiques, revisions = run(tmp_path, Oracle(), constitution(), n=7, style=style)
    assert critiques.height == revisions.height == 28
    for i in range(7):
        chain = revisions.filter(pl.col("prompt_id") == f"q{i:03d}")
        assert chain["before"].to_list() == [f"Answer {i}.", *chain["revision"].to_list()[:-1]]
        said = critiques.filter(pl.col("prompt_id") == f"q{i:03d}")
        assert chain["parent_id"].to_list() == said["row_id"].to_list()
        assert said["parent_id"].to_list() == [f"i1:{i}", *chain["row_id"].to_list()[:-1]]


def test_the_prompt_holds_the_newest_text_the_critique_and_the_principle(tmp_path: Path) -> None:
    engine = Oracle()
    critiques, revisions = run(tmp_path, engine, constitution(), n=1, rounds=2)
    sent = {r.row_key: r.call.messages[-1]["content"] for r in engine.calls}
    for c, r in zip(critiques.iter_rows(named=True), revisions.iter_rows(named=True), strict=True):
        number = c["principle_id"].removeprefix("p")
        assert f"Critique by {number}." in sent[c["row_key"]]
        assert r["before"] in sent[c["row_key"]]
        assert c["critique"] in sent[r["row_key"]]
        assert f"Revise by {number}." in sent[r["row_key"]]


def test_editing_a_principle_runs_only_the_chains_that_drew_it(tmp_path: Path) -> None:
    before, _ = run(tmp_path, Oracle(), constitution())
    edited, _ = run(tmp_path, engine := Oracle(), constitution(p3="Criticise differently."))
    hit = before.filter(pl.col("principle_id") == "p3").group_by("prompt_id").agg(pl.col("round").min())
    steps = int((5 - hit["round"]).sum())
    assert 0 < hit.height < 50
    assert len(engine.calls) == 2 * steps
    same = before.join(edited, on=["prompt_id", "round", "critique"])
    assert same.height == before.height - steps


def test_reordering_the_principles_runs_nothing(tmp_path: Path) -> None:
    run(tmp_path, Oracle(), constitution())
    turned = constitution().model_copy(update={"principles": tuple(reversed(constitution().principles))})
    run(tmp_path, engine := Oracle(), turned)
    assert engine.calls == []


def test_a_failed_call_ends_its_chain_and_loses_no_row(tmp_path: Path) -> None:
    def fails(r: Request) -> bool:
        text = r.call.messages[-1]["content"]
        return "Question 2?" in text and text.endswith("Better answer:")

    critiques, revisions = run(tmp_path, Oracle(fails=fails), constitution(), n=5, rounds=3)
    assert critiques.height == revisions.height == 15
    chain = revisions.filter(pl.col("prompt_id") == "q002")
    assert chain["revision"].null_count() == 3
    assert chain["error"].to_list()[0] == "failed on purpose"
    assert all("round 1" in e for e in chain["error"].to_list()[1:])
    assert revisions.filter(pl.col("prompt_id") != "q002")["revision"].null_count() == 0


def test_a_prompt_without_a_response_is_a_row_that_says_so(tmp_path: Path) -> None:
    frame = responses(2).with_columns(
        response=pl.when(pl.col("prompt_id") == "q001").then(None).otherwise(pl.lit("x")),
        error=pl.when(pl.col("prompt_id") == "q001").then(pl.lit("too long")))
    critiques, _ = run(tmp_path, Oracle(), constitution(), rounds=1, frame=frame)
    assert "too long" in critiques.filter(pl.col("prompt_id") == "q001")["error"][0]
