"""One line says how many rows were not used, of how many, and the commonest reasons."""

from __future__ import annotations

from cai_assets.steps.reasons import reason_line, tally


def test_the_commonest_reasons_come_first_and_the_counts_add_up() -> None:
    reasons = ["role tool"] * 3 + ["no prompt"] * 5 + ["empty"] * 2 + ["a", "b", "b"]
    assert reason_line(13, 40, "rows rejected", reasons) == (
        "13 of 40 rows rejected: 5 x no prompt; 3 x role tool; 2 x empty; 3 x 2 other reasons")


def test_one_reason_for_all_needs_no_count() -> None:
    assert reason_line(3, 3, "rows rejected", ["no prompt"] * 3) == "3 of 3 rows rejected: no prompt"
    assert reason_line(2, 9, "calls failed", {"it is late": 2}) == "2 of 9 calls failed: it is late"
    assert reason_line(0, 9, "rows rejected", []) == ""


def test_reasons_that_differ_in_values_alone_are_one() -> None:
    reasons = [f"id 'q{i}' already names another text (one.jsonl line {i})" for i in range(1_200)]
    assert tally(reasons) == {reasons[0]: 1_200}
    assert reason_line(1_200, 2_000, "rows rejected", reasons).startswith("1,200 of 2,000 rows rejected: id 'q0'")


def test_of_an_error_as_json_the_servers_sentence_is_shown() -> None:
    body = '{"error":{"message":"Unsupported parameter: \'max_tokens\'. Use another.","type":"invalid_request'
    for text in (body, body + '_error"}}'):
        line = reason_line(48, 48, "calls failed", {f"after 1 attempt(s): status 400: {text}": 48})
        assert line == ("48 of 48 calls failed: after 1 attempt(s): status 400: Unsupported parameter: 'max_tokens'. "
                        "Use another.")


def test_a_long_reason_is_cut() -> None:
    assert len(reason_line(1, 1, "calls failed", ["word " * 500])) < 300
