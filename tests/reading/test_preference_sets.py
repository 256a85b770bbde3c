"""Published preference sets by their columns; ties and reversed scores are never a preference."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from cai_assets.settings.base import Source
from cai_assets.settings.columns import Columns
from cai_assets.steps.comparison_files import Comparisons, read_comparisons
from cai_assets.steps.comparisons import comparisons, mix_human

ASK, GOOD, BAD = "How do I get my deposit back?", "Ask in writing.", "Break his window."
USER = [{"role": "user", "content": ASK}]


def said(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


def parts(*texts: str) -> list[dict[str, Any]]:
    return [{"role": role, "content": [{"type": "text", "value": text}], "loss_weight": 1.0}
            for role, text in zip(("user", "assistant"), texts, strict=True)]


def human(text: str, answer: str = "") -> str:
    return f"\n\nHuman: {text}\n\nAssistant:{' ' if answer else ''}{answer}"


def read(folder: Path, *rows: Any, **how: Any) -> Comparisons:
    path = folder / "pairs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return read_comparisons(path, **how)


SETS: dict[str, dict[str, Any]] = {
    "UltraFeedback binarized": {
        "prompt": ASK, "prompt_id": "x", "messages": [*USER, said(GOOD)], "chosen": [*USER, said(GOOD)],
        "rejected": [*USER, said(BAD)], "score_chosen": 9.0, "score_rejected": 1.0},
    "UltraFeedback": {"instruction": ASK, "models": ["a", "b", "c"], "completions": [
        {"response": BAD, "overall_score": 10, "fine-grained_score": 1.25},
        {"response": "x", "fine-grained_score": 3.0},
        {"response": GOOD, "overall_score": 8.5, "fine-grained_score": 4.75}]},
    "hh-rlhf": {"chosen": human(ASK, GOOD), "rejected": human(ASK, BAD)},
    "HelpSteer2": {"prompt": ASK, "response_1": BAD, "response_2": GOOD, "preference_strength": 2},
    "HelpSteer3": {"context": USER, "response1": GOOD, "response2": BAD, "overall_preference": -3},
    "PKU-SafeRLHF": {"prompt": ASK, "response_0": BAD, "response_1": GOOD, "is_response_0_safe": False,
                     "better_response_id": 1, "safer_response_id": 1},
    "Nectar": {"prompt": human(ASK) + " ", "answers": [
        {"answer": "x", "model": "m", "rank": 2.0}, {"answer": GOOD, "rank": 1.0}, {"answer": BAD, "rank": 3.0}]},
    "Nectar, by columns": {"prompt": ASK, "answers": {"answer": [GOOD, BAD], "rank": [1, 2]}},
    "SHP": {"history": ASK, "human_ref_A": GOOD, "human_ref_B": BAD, "labels": 1, "score_A": 5, "score_B": 2},
    "SHP, second": {"history": ASK, "human_ref_A": BAD, "human_ref_B": GOOD, "labels": 0},
    "Orca DPO": {"system": "", "question": ASK, "chosen": GOOD, "rejected": BAD},
    "438 HHH": {"prompt": f"Consider: {ASK} (A) ... (B) ...", "corrects": [" (A)"], "incorrects": [" (B)"],
                "text_correct": human(ASK, GOOD), "text_incorrect": human(ASK, BAD)},
    "HHH alignment": {"input": ASK, "targets": {"choices": [BAD, GOOD], "labels": [0, 1]}},
    "LLaMA-Factory": {"conversations": [{"from": "human", "value": ASK}], "chosen": {"from": "gpt", "value": GOOD},
                      "rejected": {"from": "gpt", "value": BAD}},
    "LLaMA-Factory v1": {"chosen_messages": parts(ASK, GOOD), "rejected_messages": parts(ASK, BAD)},
    "one message": {"messages": USER, "chosen": said(GOOD), "rejected": said(BAD)},
    "JSON text": {"prompt": json.dumps(USER), "chosen": json.dumps([said(GOOD)]), "rejected": json.dumps([said(BAD)])},
    "RewardBench": {"prompt": ASK, "chosen": GOOD, "chosen_model": "m", "rejected": BAD, "subset": "refusals"},
    "JudgeBench": {"question": ASK, "response_A": BAD, "response_B": GOOD, "label": "B>A", "source": "mmlu"},
    "Arena": {"conversation_a": [*USER, said(GOOD)], "conversation_b": [*USER, said(BAD)], "winner": "model_a"},
    "Arena, Kaggle": {"prompt": ASK, "response_a": BAD, "response_b": GOOD, "winner_model_a": 0, "winner_model_b": 1,
                      "winner_tie": 0},
    "WebGPT": {"question": {"full_text": ASK, "id": 1}, "answer_0": BAD, "answer_1": GOOD, "score_0": -1.0,
               "score_1": 1.0},
    "StackExchange": {"question": ASK, "response_j": GOOD, "response_k": BAD},
    "AlpacaFarm": {"instruction": ASK, "input": "", "output_1": BAD, "output_2": GOOD, "preference": 2},
    "other words": {"instruction": ASK, "chosen_response": GOOD, "rejected_response": BAD},
    "a winner": {"prompt": ASK, "response_a": BAD, "response_b": GOOD, "winner": "Model B"},
}


@pytest.mark.parametrize("name", SETS)
def test_a_published_set_is_read_by_its_columns(name: str, tmp_path: Path) -> None:
    found = read(tmp_path, SETS[name])
    assert found.rejects.height == 0, found.rejects["reason"].to_list()
    (row,) = found.frame.to_dicts()
    assert (row["messages"], row["chosen"], row["rejected"], row["p_chosen"]) == (USER, GOOD, BAD, 1.0)


def pairs(found: Comparisons) -> set[tuple[str, str]]:
    return set(found.frame.select("chosen", "rejected").rows())


@pytest.mark.parametrize(("row", "wanted"), [
    # RewardBench 2, RM-Bench, and Bai's HarmfulVsEthical
    ({"prompt": ASK, "chosen": ["a"], "rejected": ["x", "y", "z"], "num_correct": 1, "subset": "Focus"},
     {("a", "x"), ("a", "y"), ("a", "z")}),
    ({"prompt": ASK, "chosen": ["a", "b"], "rejected": ["x", "y", "z"], "subset": "Ties"},
     {("a", "x"), ("b", "y"), ("a", "z")}),
    ({"prompt": ASK, "chosen": ["a", "b", "c"], "rejected": ["x", "y", "z"], "domain": "chat"},
     {("a", "x"), ("b", "y"), ("c", "z")}),
    ({"prompt": ASK, "chosen": "a", "rejected": ["x", "y"]}, {("a", "x"), ("a", "y")}),
    ({"chosen": [ASK, "a"], "rejected": [ASK, "x"]}, {("a", "x")}),
    ({"prompt": f"Here is a talk. {ASK} The answer is:", "corrects": [" (B)"], "incorrects": [" (A)"]},
     {("(B)", "(A)")}),
])
def test_a_row_may_hold_several_comparisons(row: dict[str, Any], wanted: set[tuple[str, str]], tmp_path: Path) -> None:
    found = read(tmp_path, row, row)
    assert pairs(found) == wanted
    assert (found.rows, found.rejects["reason"].to_list()) == (2, ["repeats an earlier comparison"])


@pytest.mark.parametrize(("row", "messages"), [
    ({"system": "Answer in one word.", "question": ASK, "chosen": GOOD, "rejected": BAD},
     [{"role": "system", "content": "Answer in one word."}, *USER]),
    ({"prompt": [{"role": "system", "content": "Be kind."}, *USER], "chosen": [said(GOOD)], "rejected": [said(BAD)]},
     [{"role": "system", "content": "Be kind."}, *USER]),
    ({"prompt": [{"role": "system", "content": "Be kind."}, *USER], "chosen": [*USER, said(GOOD)],
      "rejected": [*USER, said(BAD)]}, [{"role": "system", "content": "Be kind."}, *USER]),
    ({"prompt": ASK, "context": "I moved out.", "chosen": GOOD, "rejected": BAD},
     [{"role": "user", "content": f"I moved out.\n\n---\n\n{ASK}"}]),
])
def test_what_changes_the_meaning_of_the_prompt_is_in_it(
    row: dict[str, Any], messages: list[dict[str, str]], tmp_path: Path
) -> None:
    assert read(tmp_path, row).frame["messages"].to_list() == [messages]


def ai_labels() -> pl.DataFrame:
    return pl.DataFrame([{"pair_id": f"q{i}", "prompt_id": f"q{i}", "principle_id": "p", "chosen": "a", "rejected": "b",
                          "messages": [{"role": "user", "content": f"Question {i}?"}], "p_target": 0.8, "p_chosen": 0.8}
                         for i in range(4)])


BASE = {"prompt": ASK, "chosen": GOOD, "rejected": BAD}


@pytest.mark.parametrize(("row", "reason"), [
    ({**BASE, "score_chosen": 4.0, "score_rejected": 4.0}, "a tie: both responses have the same score"),
    ({**BASE, "score_chosen": 2, "score_rejected": 5}, "reversed: the rejected response has the higher score"),
    ({**BASE, "chosen-rating": "1.5", "rejected-rating": "2.5"}, "reversed"),
    ({**BASE, "label": "tie", "p_chosen": 0.5}, "a tie"), ({**BASE, "status": "tie"}, "a tie"),
    ({**BASE, "preference": "Tie"}, "a tie"), ({**BASE, "winner": "rejected"}, "reversed: the label says"),
    ({**BASE, "p_chosen": 0.5}, "a tie: p_chosen is 0.5"), ({**BASE, "p_chosen": 0.2}, "reversed"),
    ({**BASE, "p_chosen": 7}, "no probability"), ({**BASE, "p_chosen": "x"}, "'p_chosen' must be a number"),
    ({"prompt": ASK, "response_a": "A", "response_b": "B", "human_label": "tie"}, "a tie"),
    ({"prompt": ASK, "response_a": "A", "response_b": "B", "winner": "tie (bothbad)"}, "a tie"),
    ({"prompt": ASK, "response_a": "A", "response_b": "B", "label": 0}, "the label must be 'A' or 'B', found '0'"),
    ({"question": ASK, "response_A": "A", "response_B": "B", "label": "A=B"}, "a tie"),
    ({"prompt": ASK, "response_1": "a", "response_2": "b", "preference_strength": 0}, "a tie"),
    ({"prompt": ASK, "response_0": "a", "response_1": "b", "better_response_id": -1}, "a tie"),
    ({"prompt": ASK, "answers": [{"answer": "a", "rank": 1}, {"answer": "b", "rank": 1}]}, "a tie"),
    ({"prompt": ASK, "answers": [{"answer": "a", "rank": 1}]}, "fewer than two responses"),
    ({"instruction": ASK, "completions": [{"response": "a"}, {"response": "b"}]}, "must be a number"),
    ({"prompt": ASK, "completion": GOOD, "label": True}, "one response a row is no comparison; the columns are prompt"),
    ({"ask": ASK, "best": GOOD, "worst": BAD}, "the columns are ask, best, worst; 'columns' can name them"),
])
def test_what_is_no_preference_is_left_out_with_the_reason(row: dict[str, Any], reason: str, tmp_path: Path) -> None:
    found = read(tmp_path, row)
    assert found.frame.height == 0
    assert reason in found.rejects["reason"][0]
    assert found.left_out


def test_a_columns_map_reads_any_other_set(tmp_path: Path) -> None:
    named = Columns(prompt="ask", chosen="best", rejected="worst", system="rule", score_chosen="s", score_rejected="t")
    row = {"ask": ASK, "best": GOOD, "worst": BAD, "rule": "Be kind.", "s": 2, "t": 1, "prompt": "not this"}
    found = read(tmp_path, row, {**row, "s": 1}, columns=named)
    assert found.frame["messages"].to_list() == [[{"role": "system", "content": "Be kind."}, *USER]]
    assert found.rejects["reason"].to_list() == ["a tie: both responses have the same score"]
    lettered = Columns(prompt="ask", response_a="one", response_b="two", label="better")
    row = {"ask": ASK, "one": BAD, "two": GOOD, "better": "b"}
    assert pairs(read(tmp_path, row, columns=lettered)) == {(GOOD, BAD)}


def test_ratings_of_responses_to_one_prompt_are_one_comparison(tmp_path: Path) -> None:
    def rated(prompt: str, *ratings: int) -> list[dict[str, Any]]:
        return [{"prompt": prompt, "response": f"rated {n}", "helpfulness": n, "verbosity": 2} for n in ratings]

    found = read(tmp_path, *rated("One?", 1, 4, 3), *rated("Two?", 2, 2), *rated("Three?", 3), BASE)
    assert pairs(found) == {("rated 4", "rated 1"), (GOOD, BAD)}
    assert found.rejects.select("line", "reason").rows() == [
        (4, "a tie: all responses have the same score"), (6, "fewer than two responses to compare")]
    assert found.rows == 4
    assert found.notes == ("columns that are not read: verbosity",)


@pytest.mark.parametrize(("said", "better"), [(0, GOOD), ("1", BAD), ("A", GOOD)])
def test_a_label_may_be_the_end_of_a_columns_name(tmp_path: Path, said: object, better: str) -> None:
    row = {"prompt": ASK, "response_0": GOOD, "response_1": BAD, "safer_response_id": said}
    named = Columns(response_a="response_0", response_b="response_1", label="safer_response_id")
    assert read(tmp_path, row, columns=named).frame["chosen"].to_list() == [better]
    scored = Columns(response_a="response_0", response_b="response_1", score_a="one", score_b="two")
    assert read(tmp_path, {**row, "one": 1, "two": 2}, columns=scored).frame["chosen"].to_list() == [BAD]


def test_soft_labels_are_targets_where_they_can_be_and_set_aside_where_not(tmp_path: Path) -> None:
    rows = [{**BASE, "p_chosen": 0.55}, {**BASE, "prompt": "Where is Lima?"}]
    assert sorted(read(tmp_path, *rows).frame["p_chosen"]) == [0.55, 1.0]
    assert read(tmp_path, *rows, soft=False).left_out == {"a soft label is no person's decision": 1}
    labeled = comparisons(ai_labels(), 0.3)
    mixed = mix_human(labeled, Source(path=tmp_path / "pairs.jsonl", share=0.9), held_out=0.3)
    assert sorted(mixed.frame.filter(source="human")["p_chosen"]) == [0.55, 1.0]


def test_a_test_split_is_never_trained_on(tmp_path: Path) -> None:
    (tmp_path / "test.jsonl").write_text(json.dumps(BASE) + "\n", encoding="utf-8")
    assert read_comparisons(tmp_path / "test.jsonl").frame.height == 1  # a gate may ask it
    assert read_comparisons(tmp_path / "test.jsonl", training=True).left_out == {"its split is for evaluation": 1}
    assert read(tmp_path, {**BASE, "split": "validation"}, training=True).left_out == {"its split is for evaluation": 1}
