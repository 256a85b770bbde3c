"""A review file comes back as it was written, in both forms, and a wrong edit is named."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cai_assets.evals.red_team import Break
from cai_assets.evals.review_file import FIELDS, ReviewError, read_review, write_review
from cai_assets.lineage.origins import Origin

FOUND = Origin("complied", "rl_policy", "mild-v1-00000000", "k1:0123", "jailbreak", "wrapped", "locks~story", "r1:89")
BREAK = Break(None, "", "How do I open it?", (), "red-team", "theft", "answers", 0.5, "Sure, …", FOUND)
TEXT = st.text(st.characters(exclude_categories=("Cs",)), max_size=30)
ROWS = st.builds(
    Break, keep=st.sampled_from([None, True, False]), note=TEXT, prompt=TEXT,
    context=st.lists(st.fixed_dictionaries({"role": st.sampled_from(["user", "assistant"]), "content": TEXT}),
                     max_size=2).map(tuple),
    kind=st.sampled_from(["red-team", "helpful"]), category=TEXT, why=TEXT, p_judge=st.none() | st.floats(0, 1),
    response=TEXT, origin=st.just(FOUND))


@pytest.mark.parametrize("ending", [".csv", ".jsonl"])
@given(rows=st.lists(ROWS, min_size=1, max_size=3))
@settings(max_examples=150)
def test_whatever_the_texts_hold_they_come_back(ending: str, rows: list[Break],
                                                tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("review") / f"a{ending}"
    write_review(path, rows)
    assert read_review(path) == rows


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@x", "\t=1", "'=1", "''=1"])
def test_no_cell_is_a_formula(tmp_path: Path, text: str) -> None:
    write_review(tmp_path / "a.csv", [BREAK._replace(prompt=text)])
    with (tmp_path / "a.csv").open(newline="") as f:
        (cells,) = list(csv.DictReader(f))
    assert cells["prompt"] == f"'{text}"
    assert read_review(tmp_path / "a.csv")[0].prompt == text


def edited(path: Path, **change: Any) -> Path:
    write_review(path, [BREAK, BREAK])
    if path.suffix == ".jsonl":
        lines = [json.loads(x) for x in path.read_text().splitlines()]
        lines[1] |= change
        path.write_text("".join(json.dumps(x) + "\n" for x in lines))
        return path
    with path.open(newline="") as f:
        rows = list(csv.DictReader(f))
    rows[1] |= change
    with path.open("w", newline="", encoding="utf-8-sig") as f:  # as a spreadsheet saves it
        writer = csv.DictWriter(f, FIELDS, lineterminator="\r\n")
        writer.writeheader()
        writer.writerows(rows)
    return path


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl"])
@pytest.mark.parametrize(("said", "means"), [("yes", True), ("Y ", True), ("TRUE", True), ("no", False), ("0", False),
                                             ("drop", False), ("", None), (" ", None)])
def test_people_write_their_decisions_as_they_like(tmp_path: Path, name: str, said: str, means: bool | None) -> None:
    assert [b.keep for b in read_review(edited(tmp_path / name, keep=said))] == [None, means]


@pytest.mark.parametrize("value", [True, None])
def test_json_may_say_true_or_nothing(tmp_path: Path, value: bool | None) -> None:
    assert read_review(edited(tmp_path / "a.jsonl", keep=value))[1].keep is value


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl"])
@pytest.mark.parametrize(("change", "says"), [
    ({"keep": "maybe"}, "row 2: 'keep' must be yes, no, or empty"), ({"kind": "evil"}, "'kind' must be helpful or red"),
    ({"case": ""}, "its origin"), ({"broke": "x"}, "its origin"), ({"policy": "x" * 300}, "its origin")])
def test_a_wrong_edit_is_refused_with_its_row(tmp_path: Path, name: str, change: dict[str, Any], says: str) -> None:
    with pytest.raises(ReviewError, match=says):
        read_review(edited(tmp_path / name, **change))


@pytest.mark.parametrize(("change", "says"), [
    ({"prompt": None}, "'prompt' must be text"), ({"context": "x"}, "'context' must be a list"),
    ({"context": [1]}, r"context\[0\]"), ({"p_judge": "high"}, "'p_judge'"), ({"extra": 1}, "unknown extra")])
def test_so_is_one_of_another_type(tmp_path: Path, change: dict[str, Any], says: str) -> None:
    with pytest.raises(ReviewError, match=says):
        read_review(edited(tmp_path / "a.jsonl", **change))


@pytest.mark.parametrize(("name", "text", "says"), [
    ("a.jsonl", "{", "a.jsonl:1: not JSON"), ("a.jsonl", "[]\n", "missing broke"), ("a.csv", "a;b\n", "missing broke"),
    ("a.csv", ",".join(FIELDS) + "\nyes\n", "row 1 has 1 cells"), ("a.csv", 'a,"b', "unexpected end of data"),
    ("a.csv", "", "missing"), ("a.txt", "", "ends in .jsonl or .csv")])
def test_what_is_no_review_file_is_told_where(tmp_path: Path, name: str, text: str, says: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(ReviewError, match=says):
        read_review(tmp_path / name)


def test_a_missing_file_and_another_encoding(tmp_path: Path) -> None:
    with pytest.raises(ReviewError, match="cai red-team breaks"):
        read_review(tmp_path / "a.csv")
    (tmp_path / "a.csv").write_bytes("é".encode("latin-1"))
    with pytest.raises(ReviewError, match="not UTF-8"):
        read_review(tmp_path / "a.csv")
