"""Where response pairs come from, and what a pair's id means."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest
from oracle import Oracle
from ruled_labellers import completer

from cai_assets.engines.protocol import Call, Sampling
from cai_assets.engines.scripted import Scripted
from cai_assets.settings import Pairs
from cai_assets.steps.critique import REVISIONS
from cai_assets.steps.pair import SCHEMA, calls_per_prompt, pair_responses, pair_revisions, pairings


def prompts(n: int = 6, helpful: int = 2) -> pl.DataFrame:
    return pl.DataFrame([{
        "prompt_id": f"q{i:03d}", "kind": "helpful" if i < helpful else "red-team", "category": "x",
        "messages": [{"role": "user", "content": f"Question {i}?"}], "response": f"Answer {i}.", "error": None,
        "row_key": f"key-{i}", "row_id": f"id-{i}",
    } for i in range(n)], schema_overrides={"error": pl.String})


def sampled(root: Path, engine: Any = None, **settings: Any) -> pl.DataFrame:
    return pair_responses(prompts(), complete=completer(root, engine or Oracle()), settings=Pairs(**settings),
                          max_tokens=8)


def test_the_default_makes_the_two_calls_of_the_paper(tmp_path: Path) -> None:
    engine = Oracle()
    frame = sampled(tmp_path, engine)
    assert [r.call for r in engine.calls[:2]] == [
        Call(messages=({"role": "user", "content": "Question 0?"},), sample=i,
             sampling=Sampling(temperature=1.0, top_p=1.0, max_tokens=8)) for i in (0, 1)]
    assert frame["pair_id"].to_list() == [f"q{i:03d}-0" for i in range(6)]
    assert set(frame["origin_a"]) | set(frame["origin_b"]) == {"policy"}
    assert dict(frame.schema) == SCHEMA


def test_candidates_take_the_temperatures_in_turn(tmp_path: Path) -> None:
    engine = Oracle()
    frame = sampled(tmp_path, engine, candidates=4, temperatures=(0.2, 0.9, 1.5), source="generator")
    assert [(r.call.sample, r.call.sampling.temperature) for r in engine.calls[:4]] == [  # type: ignore[union-attr]
        (0, 0.2), (1, 0.9), (2, 1.5), (3, 0.2)]
    assert frame["pair_id"].to_list()[:2] == ["q000-0", "q000-1"]
    assert frame.select("temperature_a", "temperature_b").rows()[:2] == [(0.2, 0.9), (1.5, 0.2)]
    assert set(frame["origin_a"]) == {"generator"}
    assert len(engine.calls) == 6 * calls_per_prompt(Pairs(candidates=4))


@pytest.mark.parametrize("candidates", [2, 3, 4, 5, 8])
def test_an_id_means_the_same_two_samples_however_many_there_are(candidates: int) -> None:
    every = pairings(Pairs(candidates=candidates, combine="all"))
    assert sorted((i, j) for _, i, j in every) == [(i, j) for i in range(candidates) for j in range(i + 1, candidates)]
    assert len({name for name, _, _ in every}) == len(every)
    more = pairings(Pairs(candidates=16, combine="all"))
    assert set(every) <= set(more)
    if candidates % 2 == 0:
        assert pairings(Pairs(candidates=candidates)) == every[:candidates // 2]


def test_each_sample_is_generated_once_and_shared_by_its_pairs(tmp_path: Path) -> None:
    engine = Oracle()
    frame = sampled(tmp_path, engine, candidates=4, combine="all")
    assert len(engine.calls) == 24
    assert frame.height == 36
    assert pl.concat([frame["row_key_a"], frame["row_key_b"]]).n_unique() == 24


def test_helpful_prompts_can_stay_out(tmp_path: Path) -> None:
    assert set(sampled(tmp_path, helpful=False)["kind"]) == {"red-team"}
    assert set(sampled(tmp_path)["kind"]) == {"red-team", "helpful"}


def test_identical_pairs_are_marked_and_failed_ones_are_not(tmp_path: Path) -> None:
    same = sampled(tmp_path / "same", Scripted(reply=lambda c, r: "Yes."))
    assert same["identical"].to_list() == [True] * 6
    failed = sampled(tmp_path / "failed", Oracle(fails=lambda r: True))
    assert failed["identical"].to_list() == [False] * 6
    assert set(failed["error"]) == {"response A: failed on purpose"}


def revisions(texts: dict[str, list[str | None]], error: str | None = "the revision came out empty") -> pl.DataFrame:
    return pl.DataFrame([{"prompt_id": p, "round": n, "revision": text, "error": None if text else error,
                          "row_key": f"{p}-key-{n}", "row_id": f"{p}-id-{n}"}
                         for p, chain in texts.items() for n, text in enumerate(chain, 1)],
                        schema={c: REVISIONS[c] for c in ("prompt_id", "round", "revision", "error", "row_key",
                                                          "row_id")})


def test_the_initial_response_meets_the_last_revision_that_came_out() -> None:
    chains: dict[str, list[str | None]] = {"q002": ["one", "two"], "q003": ["one", None], "q004": [None, None],
                                           "q005": ["Answer 5."]}
    frame = pair_revisions(prompts(), revisions(chains), temperature=0.7)
    assert frame["prompt_id"].to_list() == ["q002", "q003", "q004", "q005"]  # helpful prompts have no revision
    sides = {r["prompt_id"]: {r[f"origin_{x}"]: (r[f"response_{x}"], r[f"row_key_{x}"], r[f"row_id_{x}"])
                              for x in "ab"} for r in frame.to_dicts()}
    assert sides["q002"] == {"initial": ("Answer 2.", "key-2", "id-2"), "revision": ("two", "q002-key-2", "q002-id-2")}
    assert sides["q003"]["revision"][0] == "one"
    (failed,) = frame.filter(pl.col("error").is_not_null()).to_dicts()
    assert failed["prompt_id"] == "q004"
    assert failed["error"].endswith("no revision: the revision came out empty")
    assert frame["identical"].to_list() == [False, False, False, True]
    assert set(frame["temperature_a"]) == {0.7}
    assert calls_per_prompt(Pairs(source="revision")) == 0


def test_which_side_is_the_revision_is_drawn_and_stable() -> None:
    many = prompts(200, helpful=0)
    chains: dict[str, list[str | None]] = {p: ["better"] for p in many["prompt_id"]}
    frame = pair_revisions(many, revisions(chains), temperature=0.7)
    assert 70 <= (frame["origin_a"] == "revision").sum() <= 130
    fewer = pair_revisions(many[50:], revisions(chains), temperature=0.7)
    assert fewer.equals(frame[50:])
