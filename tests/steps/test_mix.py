"""General conversations in the supervised data: shares, stable choice, bad rows, and no evaluation prompt."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from given import Given
from hypothesis import given
from hypothesis import strategies as st

from cai_assets.pipeline import stages
from cai_assets.pipeline.trainings import baseline_rows
from cai_assets.reading.faults import DataError, RowFault
from cai_assets.reading.files import Raw
from cai_assets.settings import Settings
from cai_assets.settings.base import Source
from cai_assets.steps.mix import Conversation, conversation, mix
from cai_assets.steps.shares import Amount, Report, Shares, amounts
from cai_assets.steps.supervised import SCHEMA

WORDS = ("river", "bread", "planet", "violin", "carpet", "ladder", "winter", "copper", "garden", "pepper")


def question(i: int) -> str:
    return f"Tell me about {WORDS[i % 10]} and {WORDS[i // 10 % 10]}, case {i * 7919} please {WORDS[i % 7]}"


def general(path: Path, n: int, start: int = 0) -> Path:
    rows = [{"messages": [{"role": "user", "content": question(i)},
                          {"role": "assistant", "content": f"General answer {i}."}]} for i in range(start, start + n)]
    path.write_text("".join(json.dumps(r) + "\n" for r in rows))
    return path


def mixed(
    *sources: tuple[Path, float], own: int = 80, seed: int = 0, evaluation: tuple[str, ...] = ()
) -> Shares[Conversation]:
    asked = [[{"role": "user", "content": text}] for text in evaluation]
    return mix([Source(path=p, share=s) for p, s in sources], own, asked, seed=seed, max_chars=8000)


@pytest.mark.parametrize("share", [0.1, 0.2, 0.5, 0.75])
def test_the_rows_of_a_file_are_its_share_of_the_whole(tmp_path: Path, share: float) -> None:
    out = mixed((general(tmp_path / "g.jsonl", 400), share))
    (report,) = out.reports
    assert len(out.rows) == report.rows == report.wanted
    assert len(out.rows) / (80 + len(out.rows)) == pytest.approx(share, abs=0.005)
    assert report.reached == pytest.approx(share, abs=0.005)
    assert report.warning is None


def test_raising_a_share_only_adds_rows_whatever_the_order_of_the_file(tmp_path: Path) -> None:
    path = general(tmp_path / "g.jsonl", 300)
    turned = tmp_path / "turned.jsonl"
    turned.write_text("".join(reversed(path.read_text().splitlines(keepends=True))))
    few, more = ({r.name for r in mixed((p, s)).rows} for p, s in ((path, 0.2), (turned, 0.4)))
    assert few < more
    assert {r.name for r in mixed((path, 0.2), seed=1).rows} != few


def test_a_file_with_too_few_rows_is_used_once_and_says_so(tmp_path: Path) -> None:
    out = mixed((general(tmp_path / "few.jsonl", 5), 0.5), (general(tmp_path / "g.jsonl", 300, start=1000), 0.2))
    few, enough = out.reports
    assert (few.rows, few.wanted) == (5, 53)
    assert few.warning
    assert "few.jsonl has 5 usable rows, which are 4.7% of the whole and not 50.0%" in few.warning
    assert enough.warning is None
    assert enough.reached == pytest.approx(0.2, abs=0.01)
    assert len({r.name for r in out.rows}) == len(out.rows)


def test_what_is_in_two_files_is_taken_once(tmp_path: Path) -> None:
    out = mixed((general(tmp_path / "a.jsonl", 10), 0.3), (general(tmp_path / "b.jsonl", 10), 0.3))
    assert len(out.rows) == 10
    assert out.reports[1].duplicates == 10
    assert out.reports[1].rows == 0
    assert out.reports[1].warning


@given(st.integers(0, 500), st.lists(st.tuples(st.floats(0.01, 0.3), st.integers(0, 400)), max_size=3))
def test_each_source_is_its_share_or_used_up(own: int, sources: list[tuple[float, int]]) -> None:
    taken = amounts(own, sources)
    whole = own + sum(n.take for n in taken)
    for n, (share, has) in zip(taken, sources, strict=True):
        assert n.take == min(has, n.wanted)
        if n.take < has:
            assert n.take == pytest.approx(share * whole, abs=0.5 + share * len(sources))


def test_amounts_of_two_short_sources() -> None:
    assert amounts(50, [(0.25, 1000), (0.25, 1000)]) == [Amount(25, 25), Amount(25, 25)]
    assert amounts(50, [(0.25, 10), (0.25, 1000)]) == [Amount(10, 20), Amount(20, 20)]
    assert amounts(0, [(0.5, 10)]) == [Amount(0, 0)]


def test_no_row_near_an_evaluation_prompt_is_mixed_in(tmp_path: Path) -> None:
    path = general(tmp_path / "g.jsonl", 30)
    with path.open("a") as f:
        turns = ["First something else entirely, on boats", "ok", question(7) + "!", "Sure."]
        f.write(json.dumps({"messages": [{"role": r, "content": c} for r, c in zip(
            ("user", "assistant", "user", "assistant"), turns, strict=True)]}) + "\n")
    out = mixed((path, 0.9), evaluation=(question(7).upper(),))
    assert out.reports[0].near_evaluation >= 2
    texts = [m["content"] for r in out.rows for m in r.row.messages]
    assert question(7) not in texts
    assert question(7) + "!" not in texts
    assert len(out.rows) == 31 - out.reports[0].near_evaluation


FORMS: list[tuple[dict[str, Any], list[str], str]] = [
    ({"messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "q"},
                   {"role": "assistant", "content": "a"}]}, ["s", "q"], "a"),
    ({"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]}, ["q"], "a"),
    ({"prompt": "q", "response": "a"}, ["q"], "a"),
    ({"prompt": "q", "completion": "a"}, ["q"], "a"),
    ({"prompt": [{"role": "user", "content": "q"}], "completion": [{"role": "assistant", "content": "a"}]}, ["q"], "a"),
    ({"messages": [{"role": "user", "content": "q"}], "response": "a"}, ["q"], "a"),
    ({"prompt": "not this", "messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]},
     ["q"], "a"),
    ({"instruction": "do", "input": "this", "output": "a"}, ["do\n\nthis"], "a"),
]


@pytest.mark.parametrize(("row", "prompt", "answer"), FORMS)
def test_forms_of_a_conversation(row: dict[str, Any], prompt: list[str], answer: str) -> None:
    messages, found = conversation(Raw("f", 1, row), max_chars=100)
    assert [m["content"] for m in messages] == prompt
    assert found == answer


BAD: list[tuple[object, str]] = [
    (7, "expected an object"), ({}, "no answer"), ({"prompt": "q"}, "no answer"), ({"response": "a"}, "no prompt"),
    ({"messages": [{"role": "user", "content": "q"}]}, "no answer"),
    ({"messages": [{"role": "assistant", "content": "a"}]}, "last turn is not by the user"),
    ({"messages": ["q"]}, "messages[0]"), ({"prompt": "q", "response": " \n"}, "the answer: empty"),
    ({"prompt": "q", "response": "\x00a"}, "the answer: control character"),
    ({"prompt": "q", "response": "a" * 101}, "the answer is too long"),
    ({"prompt": "q" * 101, "response": "a"}, "too long"),
    ({"prompt": "q", "response": "a", "split": "test"}, "for evaluation"),
    ({"prompt": "q", "response": {"text": "a"}}, "no answer"),
    ({"prompt": "q", "completion": "a", "label": False}, "a bad example: its 'label' is false"),
    ({"prompt": "q", "response": "a", "is_safe": "False"}, "a bad example"), (RowFault("not JSON: x"), "not JSON"),
]


@pytest.mark.parametrize(("row", "reason"), BAD)
def test_a_row_that_cannot_be_used_says_why(row: object, reason: str) -> None:
    with pytest.raises(RowFault) as fault:
        conversation(Raw("f", 1, row), max_chars=100)
    assert reason in str(fault.value)


def test_bad_rows_are_counted_by_reason(tmp_path: Path) -> None:
    path = general(tmp_path / "g.jsonl", 20)
    with path.open("a") as f:
        f.write('{"prompt": "q"}\n{"prompt": "x"}\n{broken\n\n')
    (report,) = mixed((path, 0.1)).reports
    assert report.read == report.usable + sum(report.rejected.values()) == 24
    assert sum(n for reason, n in report.rejected.items() if "no answer" in reason) == 2
    assert report.rejected["blank line"] == 1


def test_parquet_and_folders_are_read(tmp_path: Path) -> None:
    folder = tmp_path / "chat"
    folder.mkdir()
    rows = pl.DataFrame({"prompt": [question(i) for i in range(30)], "response": [f"answer {i}" for i in range(30)]})
    rows.write_parquet(folder / "train-00000.parquet")
    rows.with_columns(prompt="held out " + pl.col("prompt")).write_parquet(folder / "test-00000.parquet")
    out = mixed((folder, 0.2))
    assert len(out.rows) == 20
    assert {r.place.rpartition(":")[0] for r in out.rows} == {"chat/train-00000.parquet"}
    assert out.reports[0].rejected == {"its split is for evaluation": 30}


def test_a_missing_file_is_an_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere\.jsonl"):
        mixed((tmp_path / "nowhere.jsonl", 0.2))


def tables() -> tuple[pl.DataFrame, pl.DataFrame]:
    kinds = [("red-team", "train")] * 6 + [("helpful", "train")] * 4 + [("red-team", "evaluation")] * 2
    responses = pl.DataFrame([
        {"prompt_id": f"q{i:02d}", "kind": kind, "split": split, "source": "prompts.jsonl", "finish": "stop",
         "messages": [{"role": "user", "content": f"Prompt {i}"}], "response": f"R{i}", "row_id": f"i1:{i}"}
        for i, (kind, split) in enumerate(kinds)])
    revisions = pl.DataFrame([
        {"prompt_id": f"q{i:02d}", "round": r, "principle_id": "p", "revision": f"V{i} {r}" if r <= i else None,
         "finish": "stop", "row_id": f"i1:v{i}{r}"} for i in range(6) for r in (1, 2)],
        schema_overrides={"round": pl.Int32})
    return responses, revisions


def whole_of(made: stages.SupervisedParts) -> tuple[pl.DataFrame, tuple[Report, ...]]:
    return pl.concat(made.parts), made.mixed


def test_the_sl_data_and_the_baseline_get_the_same_mix(tmp_path: Path) -> None:
    responses, revisions = tables()
    settings = Settings.model_validate({"supervised": {"mix": [
        {"path": general(tmp_path / "g.jsonl", 200), "share": 0.5}]}, "critique": {"rounds": 2}})
    made, _ = whole_of(stages.sl_dataset(Given(settings, starting_responses=responses, revisions=revisions)))
    assert made.schema == pl.Schema(SCHEMA)
    counts = dict(made["kind"].value_counts().iter_rows())
    assert counts == {"red-team": 9, "helpful": 4, "general": 13}  # q00 stopped at once, q01 after one round
    rows = made.filter(pl.col("kind") == "general")
    assert rows["source"].str.starts_with("g.jsonl:").all()
    assert rows["row_id"].n_unique() == rows["prompt_id"].n_unique() == 13
    assert made.filter(pl.col("kind") != "general")["source"].null_count() == 13
    baseline = baseline_rows(settings, responses)
    assert dict(baseline["kind"].value_counts().iter_rows()) == {"red-team": 12, "helpful": 4, "general": 16}
    assert set(rows["row_id"]) < set(baseline["row_id"])
    assert baseline.equals(baseline.sort("prompt_id", "round"))
    unmixed = Settings.model_validate({"critique": {"rounds": 2}})
    alone, mixed = whole_of(stages.sl_dataset(Given(unmixed, starting_responses=responses, revisions=revisions)))
    assert mixed == ()
    assert alone.equals(made.filter(pl.col("kind") != "general"))
