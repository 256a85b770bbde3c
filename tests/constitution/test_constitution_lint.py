"""Lint finds what is valid and yet not meant."""

from __future__ import annotations

from typing import Any

import pytest

from cai_assets.constitution.lint import LONG_SHOTS, LONG_TEXT, Finding, lint
from cai_assets.constitution.model import Constitution

FULL = {"critique": "Is there harm in it?", "revision": "Remove the harm.", "preference": "Which is less harmful?"}
REVISION = dict.fromkeys(("prompt", "response", "critique_request", "critique", "revision_request", "revision"), "x")
PREFERENCE = {"prompt": "p", "a": "x", "b": "y", "request": "r"}
SHOTS = {"revision": [REVISION], "preference": [PREFERENCE | {"choice": c} for c in "AB"]}
KIND = {"critique": "Is it kind?", "revision": "Make it kind.", "preference": "Which is friendlier to the reader?"}
TWO = [{"id": "harm", "tags": ["dont"], **FULL}, {"id": "kind", "tags": ["do"], **KIND}]


def findings(principles: list[dict[str, Any]], few_shots: dict[str, Any] | None = None) -> list[Finding]:
    given = SHOTS if few_shots is None else few_shots
    return lint(Constitution.model_validate(
        {"name": "c", "version": "v1", "principles": principles, "few_shots": given}))


def test_a_sound_constitution_has_no_findings() -> None:
    assert findings(TWO) == []


@pytest.mark.parametrize(("text", "level"), [
    ("which is LESS harmful", "error"),
    ("Which is less harmful now?", "warning"),
    ("Which harmful is less?", "warning"),
])
def test_duplicates(text: str, level: str) -> None:
    found = findings([TWO[0], TWO[1] | {"preference": text}])
    assert [(f.level, f.principle) for f in found] == [(level, "kind")]
    assert "'harm'" in found[0].message


def test_shared_revision_requests_are_fine() -> None:
    assert findings([TWO[0], TWO[1] | {"revision": FULL["revision"]}]) == []


def test_missing_requests() -> None:
    labels_only = {"id": "kind", "tags": ["do"], "preference": KIND["preference"]}
    found = findings([TWO[0], labels_only])
    assert [(f.level, f.principle) for f in found] == [("note", "kind")]
    alone = findings([labels_only, {"id": "b", "tags": ["dont"], "preference": "Which one harms fewer people?"}])
    assert [(f.level, f.principle) for f in alone] == [("warning", None)]
    assert "no critique and revision" in alone[0].message.replace("can be ", "")


def test_judging_is_optional_and_a_principle_may_be_for_it_alone() -> None:
    judges = {"id": "calm", "tags": ["do"], "evaluation": "Which is calmer?"}
    assert findings([*TWO, judges]) == []
    twice = findings([*TWO, judges, {"id": "calm-2", "tags": ["dont"], "evaluation": "Which is calmer?"}])
    assert [(f.level, f.principle) for f in twice] == [("error", "calm-2")]
    rare = findings([*TWO, judges, {**judges, "id": "rare", "evaluation": "Which argues less?", "weight": 0.0005}])
    assert [(f.level, f.principle) for f in rare] == [("warning", "rare")]
    assert "draws in evaluation" in rare[0].message
    assert [f.level for f in findings([*TWO, {**judges, "evaluation": "x" * (LONG_TEXT + 1)}])] == ["warning"]
    alone = [f.message for f in findings([judges], {})]
    assert sum("no principle has a" in message for message in alone) == 2


def test_balance_of_do_and_dont() -> None:
    assert [f.level for f in findings([p | {"tags": []} for p in TWO])] == ["note"]
    found = findings([p | {"tags": ["dont"]} for p in TWO])
    assert [f.level for f in found] == ["warning"]
    assert "what to do ('do')" in found[0].message


def test_rarely_drawn() -> None:
    found = findings([TWO[0], TWO[1] | {"weight": 0.0005}])
    assert {(f.level, f.principle) for f in found} == {("warning", "kind")}
    assert "one of 2,001 draws" in found[0].message


def test_long_texts() -> None:
    found = findings([TWO[0], TWO[1] | {"revision": "x" * (LONG_TEXT + 1)}])
    assert [(f.level, f.principle) for f in found] == [("warning", "kind")]


def test_few_shots() -> None:
    assert [f.level for f in findings(TWO, {})] == ["warning", "warning"]
    long = SHOTS | {"revision": [REVISION | {"prompt": "x" * LONG_SHOTS}]}
    assert ["4,005 characters" in f.message for f in findings(TWO, long)] == [True]
    leaning = SHOTS | {"preference": [PREFERENCE | {"choice": "A"}] * 2}
    assert ["choose A, A" in f.message for f in findings(TWO, leaning)] == [True]
