"""Human comparisons: every known form of file, every row accounted for, mixed by share without leaks."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from cai_assets.reading.faults import DataError
from cai_assets.settings.base import Source
from cai_assets.steps.comparison_files import read_comparisons
from cai_assets.steps.comparisons import AI, HUMAN, Mixed, comparisons, mix_human


def jsonl(path: Path, rows: Sequence[Any]) -> Path:
    path.write_text("".join((r if isinstance(r, str) else json.dumps(r)) + "\n" for r in rows), encoding="utf-8")
    return path


def turns(*texts: str) -> list[dict[str, str]]:
    return [{"role": ("user", "assistant")[i % 2], "content": t} for i, t in enumerate(texts)]


ONE = (turns("Hi?"), "Hello.", "Go away.")
THREE = (turns("Hi?", "Yes?", "Well?"), "Hello.", "Go away.")


@pytest.mark.parametrize(("row", "want"), [
    ({"prompt": "Hi?", "chosen": "Hello.", "rejected": "Go away."}, ONE),
    ({"id": 7, "prompt": turns("Hi?"), "chosen": " Hello.", "rejected": "Go away. "}, ONE),
    ({"prompt": turns("Hi?"), "chosen": turns("", "Hello.")[1:], "rejected": turns("", "Go away.")[1:]}, ONE),
    ({"prompt": "Hi?", "chosen": turns("Hi?", "Hello."), "rejected": turns("Hi?", "Go away.")}, ONE),
    ({"chosen": turns("Hi?", "Hello."), "rejected": turns("Hi?", "Go away.")}, ONE),
    ({"messages": turns("Hi?"), "response_a": "Go away.", "response_b": "Hello.", "human_label": "B"}, ONE),
    ({"chosen": "\n\nHuman: Hi?\n\nAssistant: Yes?\n\nHuman: Well?\n\nAssistant: Hello.",
      "rejected": "\n\nHuman: Hi?\n\nAssistant: Yes?\n\nHuman: Well?\n\nAssistant: Go away."}, THREE),
    ({"prompt": "\n\nHuman: Hi?\n\nAssistant: Yes?\n\nHuman: Well?\n\nAssistant:", "chosen": " Hello.",
      "rejected": " Go away."}, THREE),
])
def test_every_known_form_is_the_same_comparison(row: dict[str, Any], want: Any, tmp_path: Path) -> None:
    read = read_comparisons(jsonl(tmp_path / "pairs.jsonl", [row]))
    assert read.rejects.height == 0
    (found,) = read.frame.to_dicts()
    assert (found["messages"], found["chosen"], found["rejected"]) == want


@pytest.mark.parametrize(("row", "reason"), [
    ("{broken", "not JSON"),
    ("[1]", "expected an object"),
    ({"prompt": "Hi?", "chosen": "Hello."}, "'rejected' is missing"),
    ({"prompt": "Hi?", "chosen": "Hello.", "rejected": " Hello. "}, "the same text"),
    ({"prompt": "Hi?", "chosen": "Hello.", "rejected": "\u200b"}, "no visible character"),
    ({"prompt": "Hi?", "chosen": "Hello.", "rejected": "a\x00b"}, "control character"),
    ({"prompt": "  ", "chosen": "Hello.", "rejected": "No."}, "no visible character"),
    ({"chosen": "Hello.", "rejected": "No."}, "no prompt, and 'chosen' is not a transcript"),
    ({"chosen": turns("Hi?", "Hello."), "rejected": turns("Ho?", "No.")}, "answer different prompts"),
    ({"prompt": "Other?", "chosen": turns("Hi?", "Yes."), "rejected": turns("Hi?", "No.")}, "another prompt"),
    ({"prompt": "Hi?", "chosen": turns("Hi?"), "rejected": "No."}, "does not end with a response"),
    ({"prompt": "Hi?", "response_a": "x", "response_b": "y", "label": "tie"}, "label must be 'A' or 'B'"),
])
def test_a_row_that_is_no_comparison_says_why(row: Any, reason: str, tmp_path: Path) -> None:
    good = {"prompt": "Hi?", "chosen": "Hello.", "rejected": "Go away."}
    read = read_comparisons(jsonl(tmp_path / "pairs.jsonl", [good, row]))
    assert read.frame.height == 1
    (reject,) = read.rejects.to_dicts()
    assert reason in reject["reason"]
    assert (reject["source"], reject["line"]) == ("pairs.jsonl", 2)


def pair(i: int, prompt: str | None = None) -> dict[str, str]:
    return {"prompt": prompt or f"Question {i}?", "chosen": f"Yes {i}.", "rejected": f"No {i}."}


def test_parquet_reads_as_jsonl_does_and_repeats_are_counted(tmp_path: Path) -> None:
    rows = [pair(i) for i in range(9)]
    pl.DataFrame([r | {"other": 1} for r in [*rows, rows[0]]]).write_parquet(tmp_path / "pairs.parquet")
    read = read_comparisons(tmp_path / "pairs.parquet")
    assert read.frame.equals(read_comparisons(jsonl(tmp_path / "pairs.jsonl", rows[::-1])).frame)
    assert read.rejects["reason"].to_list() == ["repeats an earlier comparison"]
    few = read_comparisons(tmp_path / "pairs.parquet", limit=4).frame
    assert few.height == 4
    assert few.equals(read.frame.head(4))


def test_a_file_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="check that the file exists"):
        read_comparisons(tmp_path / "none.jsonl")


def labeled(n: int = 12) -> pl.DataFrame:
    rows = [{"pair_id": f"q{i:02d}-0", "prompt_id": f"q{i:02d}", "principle_id": "p", "chosen": "a", "rejected": "b",
             "messages": turns(f"Question {i}?"), "p_target": 0.8, "p_chosen": 0.8} for i in range(n)]
    return comparisons(pl.DataFrame(rows), 0.3)


def mix(tmp_path: Path, rows: Sequence[Any], share: float = 0.4, **changes: Any) -> Mixed:
    source = Source(path=jsonl(tmp_path / "people.jsonl", rows), share=share)
    return mix_human(labeled(), source, held_out=0.3, **changes)


def test_human_comparisons_fill_the_share_as_certain_labels(tmp_path: Path) -> None:
    mixed = mix(tmp_path, [*(pair(i) for i in range(100, 150)), "{"])
    people = mixed.frame.filter(source=HUMAN)
    assert people.height == 8
    assert mixed.human_share == pytest.approx(0.4)
    assert set(people["p_chosen"]) == {1.0}
    assert people["principle_id"].is_null().all()
    assert mixed.by_kind() == {"AI-labelled comparisons": 12, "human comparisons": 8}
    assert mixed.left_out.pop("the share is reached") == 42
    ((reason, n),) = mixed.left_out.items()
    assert reason.startswith("unusable: not JSON")
    assert n == 1
    assert mixed.frame.filter(source=AI).equals(labeled())


def test_a_higher_share_and_another_order_only_add_rows(tmp_path: Path) -> None:
    rows = [pair(i) for i in range(100, 150)]
    ids = [set(mix(tmp_path, r, share).frame["pair_id"]) for r, share in ((rows, 0.2), (rows[::-1], 0.4), (rows, 0.9))]
    assert ids[0] < ids[1] < ids[2]
    assert len(ids[2]) == 62  # all there are: the share is not reached, and that is said
    assert mix(tmp_path, rows, 0.9).human_share == pytest.approx(50 / 62)


def test_no_prompt_is_both_trained_on_and_held_out(tmp_path: Path) -> None:
    rows = [pair(100 + 20 * i + j, f" question  {i}?" if j % 2 else f"QUESTION {i}!") for i in range(20)
            for j in range(3)]
    frame = mix(tmp_path, rows, 0.8).frame
    text = pl.col("messages").list.first().struct.field("content").str.extract(r"(\d+)").alias("number")
    assert frame.filter(source=HUMAN)["held_out"].n_unique() == 2
    sides = frame.group_by(text).agg(pl.col("held_out").n_unique(), pl.col("prompt_id").n_unique())
    assert sides["held_out"].max() == 1
    assert sides["prompt_id"].max() == 1
    assert {f"q{i:02d}" for i in range(12)} <= set(frame.filter(source=HUMAN)["prompt_id"])


def test_prompts_for_evaluation_are_kept_away_from(tmp_path: Path) -> None:
    evaluation = pl.DataFrame({"messages": [turns("QUESTION  101?"), turns("Question 102?")]})
    mixed = mix(tmp_path, [pair(i) for i in range(100, 104)], evaluation=evaluation)
    assert mixed.left_out == {"its prompt is for evaluation": 2}
    assert set(mixed.frame.filter(source=HUMAN)["chosen"]) == {"Yes 100.", "Yes 103."}
