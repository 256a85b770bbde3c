"""The bundled sample, row accounting across splits, and selection."""

import hashlib
import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from rapidfuzz import fuzz, process

from cai_assets.settings import Prompts
from cai_assets.steps.prompt_rows import normalize
from cai_assets.steps.prompts import BUNDLED, SCHEMA, Loaded, load_prompts, select
from cai_assets.store.layout import safe_name


def write(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join(json.dumps(r) + "\n" for r in rows), encoding="utf-8")
    return path


def load(tmp_path: Path, *rows: Any, name: str = "p.jsonl") -> Loaded:
    return load_prompts([write(tmp_path / name, list(rows))], max_chars=8000)


@pytest.fixture(scope="module")
def bundled() -> pl.DataFrame:
    loaded = load_prompts(max_chars=8000)
    assert loaded.counts.kept == loaded.counts.read == len(BUNDLED.read_text(encoding="utf-8").splitlines())
    assert loaded.counts.flagged == {"near-duplicates": 0}
    return loaded.frame


def test_bundled_sample_has_its_promised_shape(bundled: pl.DataFrame) -> None:
    kinds = dict(bundled.group_by("kind").len().iter_rows())
    assert bundled.schema == SCHEMA
    assert bundled.height >= 320
    assert kinds["red-team"] >= 170
    assert kinds["helpful"] >= 130
    assert 0.2 < (bundled["split"] == "evaluation").mean() < 0.3  # type: ignore[operator]
    assert bundled.filter(kind="red-team")["category"].n_unique() >= 10
    assert bundled.filter(pl.col("messages").list.len() > 1).height >= 12
    assert bundled.filter(category="sounds-scary").height >= 10


def test_bundled_categories_are_in_both_splits_and_of_one_kind(bundled: pl.DataFrame) -> None:
    by_category = bundled.group_by("category").agg(pl.col("split").n_unique(), pl.col("kind").n_unique())
    assert by_category["split"].to_list() == [2] * by_category.height
    assert by_category["kind"].to_list() == [1] * by_category.height


def test_bundled_ids_are_the_files_own_and_unique(bundled: pl.DataFrame) -> None:
    rows = [json.loads(line) for line in BUNDLED.read_text(encoding="utf-8").splitlines()]
    assert bundled["prompt_id"].to_list() == [r["id"] for r in rows]
    assert bundled["prompt_id"].is_unique().all()
    assert all(safe_name(i) == i for i in bundled["prompt_id"])


def test_bundled_prompts_are_short_and_have_no_addresses_or_numbers_of_people(bundled: pl.DataFrame) -> None:
    texts = bundled["messages"].list.eval(pl.element().struct.field("content")).list.join("\n")
    assert texts.str.len_chars().max() <= 300  # type: ignore[operator]
    assert not texts.str.contains(r"@|https?:|www\.|\+?\d[\d ]{7,}\d").any()


@pytest.mark.parametrize(("scorer", "limit"), [(fuzz.ratio, 80), (fuzz.token_set_ratio, 85)])
@pytest.mark.parametrize("form", [str, normalize])
def test_bundled_splits_do_not_nearly_overlap(bundled: pl.DataFrame, scorer: Any, limit: int, form: Any) -> None:
    text = {split: [form("\n".join(m["content"] for m in messages))
                    for messages in bundled.filter(split=split)["messages"].to_list()]
            for split in ("train", "evaluation")}
    scores = process.cdist(text["train"], text["evaluation"], scorer=scorer)
    assert scores.max() <= limit


def test_an_equal_text_is_one_prompt_and_the_evaluation_row_wins(tmp_path: Path) -> None:
    loaded = load(tmp_path, {"id": "a", "prompt": "How do I boil an egg?", "split": "train"},
                  {"id": "b", "prompt": "How do I boil an egg?", "split": "evaluation"},
                  {"id": "c", "prompt": "How do I boil an egg?", "split": "evaluation"})
    assert loaded.frame["prompt_id"].to_list() == ["b"]
    assert loaded.duplicates.select("line", "prompt_id", "reason").rows() == [(1, "b", "same text"),
                                                                              (3, "b", "same text")]
    assert loaded.counts.duplicates == 2


@pytest.mark.parametrize("text", ["how do i  boil an EGG ?", "How do I boil an egg, please?", "boil an egg: how do I?",
                                  "Ｈow do I b\u200boil an egg?"])
def test_a_training_prompt_near_an_evaluation_prompt_is_dropped(tmp_path: Path, text: str) -> None:
    held_out = {"id": "e", "prompt": "How do I boil an egg?", "split": "test"}
    for rows in ([{"prompt": text, "split": "train"}, held_out], [held_out, {"prompt": text, "split": "train"}]):
        loaded = load(tmp_path, *rows)
        assert loaded.frame["prompt_id"].to_list() == ["e"]
        assert loaded.duplicates["prompt_id"].to_list() == ["e"]


def test_near_duplicates_within_a_split_are_kept_and_counted(tmp_path: Path) -> None:
    texts = ["How do I boil an egg?", "how do i boil an egg ?", "How do I boil an egg!", "Where is Lima?"]
    loaded = load(tmp_path, *({"prompt": t, "split": "train"} for t in texts))
    assert loaded.counts.kept == 4
    assert loaded.counts.flagged == {"near-duplicates": 2}


def test_different_prompts_of_one_form_stay_apart(tmp_path: Path) -> None:
    loaded = load(tmp_path, {"prompt": "How do I kill a Python process?", "split": "train"},
                  {"prompt": "How do I cook a Spanish omelette?", "split": "evaluation"})
    assert loaded.counts.kept == 2


def test_one_id_for_two_texts_rejects_the_second(tmp_path: Path) -> None:
    loaded = load(tmp_path, {"id": "x", "prompt": "One"}, {"id": "x", "prompt": "Another thing"})
    assert loaded.frame["messages"][0][0]["content"] == "One"
    assert loaded.rejects["reason"].to_list() == ["id 'x' already names another text (p.jsonl line 1)"]


def test_the_default_split_is_stable_and_about_one_in_five(tmp_path: Path) -> None:
    rows = [{"prompt": hashlib.sha256(bytes([n % 256, n // 256])).hexdigest()} for n in range(2000)]
    splits = load(tmp_path, *rows).frame
    again = load(tmp_path, *reversed(rows)).frame
    assert set(splits.select("prompt_id", "split").rows()) == set(again.select("prompt_id", "split").rows())
    assert 0.15 < (splits["split"] == "evaluation").mean() < 0.25  # type: ignore[operator]


LIMITS = Prompts(red_team=20, helpful=10, eval_red_team=6, eval_helpful=5)


def ids(frame: pl.DataFrame) -> set[str]:
    return set(frame["prompt_id"])


def test_select_keeps_to_the_limits_and_is_sorted(bundled: pl.DataFrame) -> None:
    chosen = select(bundled, LIMITS, seed=0)
    assert {(k, s): n for k, s, n in chosen.group_by("kind", "split").len().iter_rows()} == {
        ("red-team", "train"): 20, ("helpful", "train"): 10,
        ("red-team", "evaluation"): 6, ("helpful", "evaluation"): 5}
    assert chosen["prompt_id"].is_sorted()
    assert chosen.schema == SCHEMA


def test_select_depends_on_the_seed_and_not_on_the_order(bundled: pl.DataFrame) -> None:
    chosen = select(bundled, LIMITS, seed=3)
    assert chosen.equals(select(bundled.reverse(), LIMITS, seed=3))
    assert ids(chosen) != ids(select(bundled, LIMITS, seed=4))


def test_raising_a_limit_only_adds(bundled: pl.DataFrame) -> None:
    more = LIMITS.model_copy(update={"red_team": 30, "eval_helpful": 9})
    assert ids(select(bundled, LIMITS, seed=0)) < ids(select(bundled, more, seed=0))


def test_a_new_prompt_takes_at_most_one_place(bundled: pl.DataFrame) -> None:
    before = ids(select(bundled, LIMITS, seed=0))
    for n in range(40):
        new = bundled.head(1).with_columns(prompt_id=pl.lit(f"new-{n}"))
        assert len(before - ids(select(pl.concat([bundled, new]), LIMITS, seed=0))) <= 1


def test_select_takes_what_there_is(bundled: pl.DataFrame) -> None:
    everything = Prompts(red_team=10**6, helpful=10**6, eval_red_team=10**6, eval_helpful=10**6)
    assert select(bundled, everything, seed=0).height == bundled.height
    assert select(bundled.clear(), LIMITS, seed=0).height == 0
    assert select(bundled, LIMITS.model_copy(update={"helpful": 0}), seed=0).filter(
        kind="helpful", split="train").height == 0
