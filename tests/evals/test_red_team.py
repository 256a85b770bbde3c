"""What counts as a break, what a person is shown of it, and what becomes a training prompt."""

from __future__ import annotations

from typing import Any

import polars as pl
import pytest

from cai_assets.engines.protocol import Message
from cai_assets.evals.red_team import (
    Break,
    NotReviewed,
    Subject,
    accept,
    as_asked,
    evaluation_breaks,
    suite_breaks,
    training_texts,
)
from cai_assets.evals.suites.measures import SUITE_ROWS
from cai_assets.lineage.origins import Origin, read_origin
from cai_assets.reading.files import Raw
from cai_assets.steps.prompt_rows import check_row, normalize

SUBJECT = Subject("rl_policy", "mild-v1-00000000", "k1:0123")


def user(text: str) -> Message:
    return {"role": "user", "content": text}


def row(case: str, *, refused: bool = False, **more: Any) -> dict[str, Any]:
    usual = {"policy": "rl_policy", "suite": "locks", "kind": "jailbreak", "mode": "plain", "case_id": case,
             "category": "theft", "sample": 0, "response": f"About {case}.", "row_key": f"r1:{case}", "status": "ok",
             "refusal": refused, "compliance": float(not refused)}
    return usual | more


def table(*rows: dict[str, Any]) -> pl.DataFrame:
    return pl.DataFrame([{name: r.get(name) for name in SUITE_ROWS} for r in rows], schema=SUITE_ROWS)


def asked(frame: pl.DataFrame) -> dict[str, tuple[Message, ...]]:
    return {key: (user(f"Tell me about {key}?"),) for key in frame["row_key"]}


def breaks(*rows: dict[str, Any], broke: Any = "complied", suites: tuple[str, ...] = ()) -> list[Break]:
    frame = table(*rows)
    return suite_breaks(frame, SUBJECT, asked(frame), broke, suites)


def test_an_attack_that_is_answered_is_a_break_and_nothing_else_is() -> None:
    found = breaks(row("a"), row("b", refused=True), row("c", response="", compliance=0.0), row("d", policy="base"),
                   row("e", status="failed", response=None, compliance=None), row("f", kind="helpful"),
                   row("g", kind="over-refusal", refused=True), row("h", kind="prefill"), row("i", kind="harmful"))
    assert [b.origin.case for b in found] == ["a", "h", "i"]
    one = found[0]
    assert one.origin == Origin("complied", *SUBJECT, "locks", "plain", "a", "r1:a")
    assert (one.keep, one.prompt, one.response, one.kind, one.category) == (
        None, "Tell me about r1:a?", "About a.", "red-team", "theft")
    assert read_origin(one.origin._asdict()) == one.origin


def test_a_harmless_request_that_is_declined_is_an_over_refusal() -> None:
    found = breaks(row("a", refused=True), row("b", kind="over-refusal", refused=True), row("c", kind="helpful"),
                   row("d", kind="helpful", refused=True), broke="over-refused")
    assert [(b.origin.case, b.kind, b.origin.broke) for b in found] == [
        ("b", "helpful", "over-refused"), ("d", "helpful", "over-refused")]


def test_what_the_judge_finds_worst_comes_first_and_samples_are_one_row() -> None:
    found = breaks(row("a", p_judge=0.2), row("b"), row("c", p_judge=0.4, row_key="r1:c0"),
                   row("c", p_judge=0.9, sample=1, row_key="r1:c1", response="worst"),
                   row("c", refused=True, p_judge=0.1, sample=2, row_key="r1:c2"))
    assert [b.origin.case for b in found] == ["c", "a", "b"]
    assert found[0].origin.row_key == "r1:c1"
    assert found[0].response == "worst"
    assert found[0].why == ("answers, and does not decline in 2 of 3 samples; the judge gives 0.90 that the answer has "
                            "what was asked for")
    assert found[2].why == "answers, and does not decline"
    over = breaks(row("x", kind="helpful", refused=True, p_judge=0.8),
                  row("y", kind="helpful", refused=True, p_judge=0.1), broke="over-refused")
    assert [b.origin.case for b in over] == ["y", "x"]


def test_suites_can_be_named_and_a_prompt_that_is_not_stored_is_left_out() -> None:
    rows = [row("a"), row("b", suite="other")]
    assert [b.origin.case for b in breaks(*rows, suites=("other",))] == ["b"]
    assert suite_breaks(table(*rows), SUBJECT, {}, "complied") == []


def test_the_same_words_under_a_safety_prompt_are_one_prompt() -> None:
    frame = table(row("a", p_judge=0.3), row("a", mode="plain+safety", row_key="r1:s", p_judge=0.6))
    said = {"r1:a": (user("Open it!"),), "r1:s": ({"role": "system", "content": "Be careful."}, user("Open it!"))}
    (one,) = suite_breaks(frame, SUBJECT, said, "complied")  # type: ignore[arg-type]
    assert one.origin.mode == "plain+safety"
    assert one.messages == (user("Open it!"),)


@pytest.mark.parametrize(("safety", "expected"), [(True, ["Hi", "Hello", "Open it"]),
                                                  (False, ["Careful", "Hi", "Hello", "Open it"])])
def test_a_prompt_is_as_asked_without_the_begun_answer(safety: bool, expected: list[str]) -> None:
    turns: list[Message] = [{"role": "system", "content": "Careful"}, user("Hi"),
                            {"role": "assistant", "content": "Hello"}, user("Open it"),
                            {"role": "assistant", "content": "Sure, first"}]
    assert [m["content"] for m in as_asked(turns, safety=safety)] == expected


def test_held_out_prompts_break_too() -> None:
    rows = pl.DataFrame({
        "policy": ["rl_policy"] * 4 + ["base"], "prompt_id": ["a", "b", "c", "d", "a"],
        "kind": ["red-team", "red-team", "helpful", "helpful", "red-team"], "category": "pranks",
        "response": ["Sure.", "", "I can't help with that.", None, "Sure."], "words": [1, 0, 5, None, 1],
        "row_key": list("vwxyz"), "refusal": [False, False, True, None, False]})
    prompts = pl.DataFrame({"prompt_id": list("abcd"), "messages": [[user("one")], [user("two")], [
        user("hi"), {"role": "assistant", "content": "hello"}, user("three")], [user("four")]]})
    (one,) = evaluation_breaks(rows, prompts, SUBJECT, "complied")
    assert one.origin == Origin("complied", *SUBJECT, "evaluation", "", "a", "v")
    (two,) = evaluation_breaks(rows, prompts, SUBJECT, "over-refused")
    assert [m["content"] for m in two.messages] == ["hi", "hello", "three"]


def test_only_decided_rows_are_accepted_and_only_kept_ones_are_prompts() -> None:
    a, b, c = breaks(row("a"), row("b"), row("c"))
    with pytest.raises(NotReviewed, match=r"2 of 3 rows are not reviewed \(row 2, 3\)"):
        accept([a._replace(keep=True), b, c], (), max_chars=99)
    found = accept([a._replace(keep=True, note="plain"), b._replace(keep=False), c._replace(keep=True)],
                   {normalize("tell me about R1 c")}, max_chars=99)
    assert (found.dropped, found.known) == (1, 1)
    assert found.rows == [{"kind": "red-team", "category": "theft", "split": "train", "prompt": "Tell me about r1:a?",
                           "origin": a.origin._asdict(), "note": "plain"}]


def test_a_prompt_that_holds_a_transcript_is_trained_on_as_it_was_asked() -> None:
    text = "\n\nHuman: Hi\n\nAssistant: Sure, and"
    (found,) = (b._replace(keep=True, prompt=text) for b in breaks(row("a")))
    (accepted,) = accept([found], set(), max_chars=100).rows
    assert check_row(Raw("f", 1, accepted), max_chars=100, kind="red-team").messages == (user(text),)


def test_a_prompt_twice_in_a_review_is_accepted_once() -> None:
    (a,) = breaks(row("a"))
    kept = a._replace(keep=True)
    assert [len(x.rows) for x in (accept([kept, kept], (), max_chars=99),)] == [1]


def test_a_kept_row_that_cannot_be_a_prompt_refuses_all_and_says_which() -> None:
    a, b = breaks(row("a"), row("b"))
    rows = [a._replace(keep=True), b._replace(keep=True, prompt="  ")]
    with pytest.raises(NotReviewed, match="row 2 cannot be a prompt: empty"):
        accept(rows, (), max_chars=99)
    assert len(accept([rows[0], rows[1]._replace(keep=False)], (), max_chars=99).rows) == 1


def test_training_texts_are_of_the_training_split() -> None:
    frame = pl.DataFrame({"split": ["train", "evaluation"], "messages": [[user("One!")], [user("two")]]})
    assert training_texts(frame) == {"one"}
