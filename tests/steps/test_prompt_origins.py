"""Prompts that red-teaming found: their origin stays with them, they come first, and they measure nothing any more."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cai_assets.lineage.origins import ORIGINS, Origin
from cai_assets.settings import Prompts, Settings, load_settings
from cai_assets.steps.prompts import BUNDLED, SCHEMA, Loaded, load_prompts, select
from cai_assets.store.tables import table_digest

FOUND = Origin("complied", "rl_policy", "mild-v1-00000000", "k1:0123", "jailbreak", "wrapped", "locks~story", "r1:89")
EGG = "How do I boil an egg without a pan?"


def row(prompt: str = EGG, *, split: str = "train", origin: Any = FOUND, **more: Any) -> dict[str, Any]:
    said = {} if origin is None else {"origin": origin._asdict() if isinstance(origin, Origin) else origin}
    return {"prompt": prompt, "split": split, "kind": "red-team", **said, **more}


def load(tmp_path: Path, *rows: dict[str, Any]) -> Loaded:
    path = tmp_path / "p.jsonl"
    path.write_text("".join(json.dumps(r) + "\n" for r in rows))
    return load_prompts([path], max_chars=8000)


def test_an_origin_is_read_and_the_prompts_table_is_the_same_without_it(tmp_path: Path) -> None:
    found, plain = load(tmp_path, row(id="egg")), load(tmp_path, row(id="egg", origin=None))
    assert found.origins.schema == ORIGINS
    assert found.origins.rows() == [("egg", *FOUND)]
    assert plain.origins.is_empty()
    assert found.frame.schema == SCHEMA
    assert table_digest(found.frame) == table_digest(plain.frame)


def test_an_origin_comes_from_parquet_too(tmp_path: Path) -> None:
    pq.write_table(pa.Table.from_pylist([row(id="egg")]), tmp_path / "p.parquet")
    assert load_prompts([tmp_path / "p.parquet"], max_chars=99).origins.rows() == [("egg", *FOUND)]


@pytest.mark.parametrize("origin", [
    "reddit", 3, {"source": "web"}, {**FOUND._asdict(), "more": "x"}, {**FOUND._asdict(), "case": None},
    {**FOUND._asdict(), "broke": "sang"}, {**FOUND._asdict(), "policy": ""}, {**FOUND._asdict(), "mode": "\x1b[2J"},
    {**FOUND._asdict(), "version": "x" * 201}])
def test_what_is_no_origin_of_ours_is_a_remark_and_no_more(tmp_path: Path, origin: Any) -> None:
    loaded = load(tmp_path, row(id="egg", origin=origin))
    assert loaded.frame["prompt_id"].to_list() == ["egg"]
    assert loaded.origins.is_empty()
    assert loaded.counts.flagged["unknown-origin"] == 1


def test_an_evaluation_prompt_has_no_origin(tmp_path: Path) -> None:
    loaded = load(tmp_path, row(split="evaluation"))
    assert loaded.origins.is_empty()
    assert loaded.frame["split"].to_list() == ["evaluation"]


@pytest.mark.parametrize("turned", [False, True])
def test_a_case_that_is_trained_on_leaves_the_evaluation(tmp_path: Path, turned: bool) -> None:
    rows = [row(id="held", split="evaluation", origin=None), row(id="found"), row("Name a river.", origin=None, id="x")]
    loaded = load(tmp_path, *(reversed(rows) if turned else rows))
    assert dict(loaded.frame.select("prompt_id", "split").iter_rows()) == {"found": "train", "x": "train"}
    assert loaded.duplicates.select("prompt_id", "reason").rows() == [("found", "same text")]
    assert loaded.counts.read == loaded.counts.kept + loaded.counts.duplicates


def test_so_does_one_that_is_nearly_the_same_and_only_that(tmp_path: Path) -> None:
    near = "How do I boil an egg, without a pan please?"
    loaded = load(tmp_path, row(near, id="held", split="evaluation", origin=None), row(id="found"),
                  row("How would I grow a tomato?", id="tomato", split="evaluation", origin=None),
                  row("How would I grow tomatoes?", id="other", origin=None),
                  row(near + " ", id="copy", origin=None))
    assert set(loaded.frame["prompt_id"]) == {"found", "tomato", "copy"}
    reasons = dict(loaded.duplicates.select("prompt_id", "reason").iter_rows())
    assert reasons == {"found": "nearly the same text as a training prompt that red-teaming found",
                       "tomato": "nearly the same text as an evaluation prompt"}
    assert loaded.counts.read == loaded.counts.kept + loaded.counts.duplicates == 5


def test_a_training_prompt_found_again_keeps_its_id_and_gets_the_origin(tmp_path: Path) -> None:
    loaded = load(tmp_path, row(id="old", origin=None), row(id="new"), row(id="third", origin=FOUND._replace(case="x")))
    assert loaded.frame["prompt_id"].to_list() == ["old"]
    assert loaded.origins.rows() == [("old", *FOUND)]


def test_found_prompts_are_drawn_first_and_the_others_as_before() -> None:
    frame = load_prompts((), max_chars=8000).frame
    limits = Prompts(red_team=10, helpful=2, eval_red_team=5, eval_helpful=2)
    before = select(frame, limits, seed=0)
    last = frame.filter(~pl.col("prompt_id").is_in(before["prompt_id"].to_list()), kind="red-team", split="train")[:3]
    after = select(frame, limits, seed=0, first=last["prompt_id"].to_list())
    assert set(last["prompt_id"]) <= set(after["prompt_id"])
    assert after.height == before.height
    assert len(set(after["prompt_id"]) - set(before["prompt_id"])) == 3
    assert select(frame, limits, seed=0, first=["not-there"]).equals(before)


def test_the_bundled_sample_has_a_name_beside_other_files(tmp_path: Path) -> None:
    paths = load_settings({"prompts": {"paths": ["bundled", str(tmp_path / "x.jsonl")]}}).prompts.paths
    assert paths == (BUNDLED, tmp_path / "x.jsonl")
    assert Settings().prompts.paths == ()
