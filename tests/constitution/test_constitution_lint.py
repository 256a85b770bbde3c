"""Lint finds what is valid and yet not meant."""

from __future__ import annotations

from typing import Any

import pytest

from cai_assets.constitution import lint as module
from cai_assets.constitution.cases import parse_cases
from cai_assets.constitution.draw import critique_key, draw
from cai_assets.constitution.lint import LONG_SHOTS, LONG_TEXT, Draws, Finding, lint, lint_cases
from cai_assets.constitution.model import Constitution

FULL = {"critique": "Is there harm in it?", "revision": "Remove the harm.", "preference": "Which is less harmful?"}
REVISION = dict.fromkeys(("prompt", "response", "critique_request", "critique", "revision_request", "revision"), "x")
PREFERENCE = {"prompt": "p", "a": "x", "b": "y", "request": "r"}
SHOTS = {"revision": [REVISION], "preference": [PREFERENCE | {"choice": c} for c in "AB"]}
KIND = {"critique": "Is it kind?", "revision": "Make it kind.", "preference": "Which is friendlier to the reader?"}
TWO = [{"id": "harm", "tags": ["dont"], **FULL}, {"id": "kind", "tags": ["do"], **KIND}]


def constitution(principles: list[dict[str, Any]], few_shots: dict[str, Any] | None = None) -> Constitution:
    given = SHOTS if few_shots is None else few_shots
    return Constitution.model_validate({"name": "c", "version": "v1", "principles": principles, "few_shots": given})


def findings(principles: list[dict[str, Any]], few_shots: dict[str, Any] | None = None) -> list[Finding]:
    return lint(constitution(principles, few_shots))


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
    assert [(f.level, f.principle) for f in alone] == [("note", None)]
    assert "no critique and revision; RLAIF alone" in alone[0].message


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


@pytest.mark.parametrize("tags", [("brief", "not-brief"), ("no-lists", "lists"), ("tone", "dont-tone")])
def test_opposed_tags_are_a_contradiction(tags: tuple[str, str]) -> None:
    found = findings([p | {"tags": [*p["tags"], tag]} for p, tag in zip(TWO, tags, strict=True)])
    assert [(f.level, f.principle) for f in found] == [("warning", "kind")]
    assert f"'{tags[1]}' and 'harm' '{tags[0]}'" in found[0].message
    assert "critique and revision and AI feedback" in found[0].message


def test_do_and_dont_of_one_subject_are_no_contradiction() -> None:
    """Such as 'decline politely' and 'give nothing away while declining'."""
    assert findings([p | {"tags": [*p["tags"], "refusal"]} for p in TWO]) == []


def test_principles_that_never_meet_do_not_contradict_each_other() -> None:
    judges = {"id": "long", "tags": ["do", "not-brief"], "evaluation": "Which says more?"}
    assert findings([TWO[0] | {"tags": ["dont", "brief"]}, TWO[1], judges]) == []


def test_never_drawn_is_measured_by_the_draws_themselves() -> None:
    c = constitution([*TWO, TWO[0] | {"id": "rare", "weight": 0.02, "critique": "Is anything rare in it?",
                                      "preference": "Which is the more ordinary one?"}])
    drawn = {i: {draw(c.principles, critique_key(i, n)).id for n in (1, 2)} for i in map(str, range(1_000))}
    others = [i for i, ids in drawn.items() if "rare" not in ids][:40]
    (found,) = lint(c, draws=[Draws("critique", others, "40 prompts in 2 rounds", 2)])
    assert (found.level, found.principle) == ("note", "rare")
    assert "none of the 80 draws for critique and revision (40 prompts in 2 rounds)" in found.message
    wins = next(i for i, ids in drawn.items() if "rare" in ids)
    assert lint(c, draws=[Draws("critique", [*others, wins], "41 prompts in 2 rounds", 2)]) == []


def test_one_principle_and_no_prompt_are_no_finding() -> None:
    assert lint(constitution(TWO), draws=[Draws("critique", [], "no prompts"), Draws("evaluation", ["a"], "1")]) == []
    judge = {"id": "calm", "tags": ["do"], "evaluation": "Which is calmer?"}
    assert lint(constitution([*TWO, judge]), draws=[Draws("evaluation", ["a"], "1 prompt")]) == []


def test_many_draws_are_looked_at_in_part(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_DRAWS", 1)
    found = lint(constitution(TWO), draws=[Draws("critique", ["a", "b", "c"], "3 prompts", 4)])
    assert len(found) == 1
    assert "none of the first 1 draws" in found[0].message


def test_untested_principles_and_idle_cases() -> None:
    labels = {"id": "warm", "tags": ["do"], "preference": "Which one is warmer to the touch?"}
    c = constitution([*TWO, labels, {"id": "calm", "tags": ["do"], "critique": "Is it calm at heart?",
                                     "revision": "Calm it."}])
    cases = parse_cases("""
cases:
  - {id: a, principle: harm, prompt: p, must: [refuse: true]}
  - {id: b, principle: warm, prompt: p, must: [refuse: true], good: x, bad: y}
  - {id: c, principle: calm, prompt: p, good: x, bad: y}
""", c)
    found = lint_cases(c, cases)
    assert [(f.level, f.principle) for f in found] == [("note", "warm"), ("warning", "calm"), ("note", "kind")]
    assert ["case 'b'" in found[0].message, "case 'c'" in found[1].message] == [True, True]
    assert found[2].message == "no test case names it"
