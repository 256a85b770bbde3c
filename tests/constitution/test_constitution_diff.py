"""A diff says exactly what changed; what it touches downstream follows the draws, and cosmetics touch nothing."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cai_assets.constitution.check import Check
from cai_assets.constitution.diff import applied, diff, word_ops
from cai_assets.constitution.digest import digest
from cai_assets.constitution.draw import critique_key, draw_many
from cai_assets.constitution.model import Constitution, Principle
from cai_assets.plan.touches import draws_touched, share_of_chains, share_of_steps, together, touches

ROUNDS = 4
SHOWN = ("constitution_tests", "attribution", "report", "comparison")
STRESSED = ("constitution_tests", "stress", *SHOWN[1:])  # where the question about one response changes
slugs = st.sampled_from("abcdef")
texts = st.sampled_from(["Is it kind?", "Is it unkind?", "Name the harm.", "Name each harm."])
weights = st.sampled_from([0.01, 0.5, 1.0, 2.0, 1000.0])
both = {"critique": texts, "revision": texts}
parts = [both, {"preference": texts}, {"evaluation": texts}, {**both, "preference": texts},
         {**both, "preference": texts, "evaluation": texts}]
revision_shots = st.fixed_dictionaries(
    dict.fromkeys(("prompt", "response", "critique_request", "critique", "revision_request", "revision"), texts))
preference_shots = st.fixed_dictionaries(
    {**dict.fromkeys(("prompt", "a", "b", "request"), texts), "choice": st.sampled_from("AB")})


def principles() -> st.SearchStrategy[tuple[Principle, ...]]:
    cosmetic = {"name": texts, "tags": st.lists(slugs, max_size=2), "source": texts}
    one = st.one_of(st.fixed_dictionaries({"id": slugs, "weight": weights, **p}, optional=cosmetic) for p in parts)
    return st.lists(one, min_size=1, max_size=5, unique_by=lambda p: p["id"]).map(
        lambda found: tuple(Principle.model_validate(p) for p in found))


constitutions = st.builds(
    lambda ps, version, description, shots: Constitution.model_validate(
        {"name": "c", "version": version, "description": description, "principles": ps, "few_shots": shots}),
    principles(), slugs, texts, st.fixed_dictionaries({
        "revision": st.lists(revision_shots, max_size=2), "preference": st.lists(preference_shots, max_size=2)}))


def sixteen(**last: Any) -> Constitution:
    ps = [{"id": f"p{i:02}", "critique": f"Critique {i}", "revision": f"Revise {i}", "preference": f"Prefer {i}"}
          for i in range(16)]
    return Constitution.model_validate({"name": "c", "version": "v1", "principles": [*ps[:-1], {**ps[-1], **last}]})


def having(c: Constitution, *ps: Principle) -> Constitution:
    return c.model_copy(update={"principles": ps})


@given(constitutions)
def test_a_constitution_does_not_differ_from_itself(c: Constitution) -> None:
    found = diff(c, c)
    assert found.empty
    assert found.unchanged == len(c.principles)
    assert touches(found) == together(found) == []


@given(constitutions, constitutions)
def test_a_diff_counts_exactly_if_the_digest_differs(a: Constitution, b: Constitution) -> None:
    found = diff(a, b)
    assert bool(found.changes or found.shots) == (digest(a) != digest(b))
    assert found.empty == (a == b)


@given(constitutions, constitutions)
def test_its_changes_applied_one_after_the_other_make_the_other(a: Constitution, b: Constitution) -> None:
    found, c = diff(a, b), a
    for change in (*found.shots, *found.changes):
        c = applied(c, change)
    assert digest(c) == digest(b)


@given(constitutions, constitutions)
def test_each_change_alone_is_exactly_that_change(a: Constitution, b: Constitution) -> None:
    for change in (*(found := diff(a, b)).shots, *found.changes):
        again = diff(a, applied(a, change))
        assert (*again.shots, *again.changes) == (change,)


@given(constitutions, st.data())
def test_cosmetic_changes_are_named_and_touch_nothing(c: Constitution, data: st.DataObject) -> None:
    order = data.draw(st.permutations(c.principles))
    renamed = [p.model_copy(update={"name": "Other name", "tags": ("other-tag",), "source": "Me"}) for p in order]
    found = diff(c, having(c, *renamed).model_copy(update={"version": "other", "description": "Other"}))
    assert not found.changes
    assert not found.shots
    assert {"version", "description", "name", "tags", "source"} <= {x.field for x in found.cosmetic}
    assert ("order" in {x.field for x in found.cosmetic}) == (tuple(order) != c.principles)
    assert touches(found) == together(found) == []


@given(st.text(max_size=60).map(str.strip), st.text(max_size=60).map(str.strip))
def test_both_texts_can_be_read_from_the_words(before: str, after: str) -> None:
    ops = word_ops(before, after)
    assert "".join(w.text for w in ops if w.op != "insert").strip() == before
    assert "".join(w.text for w in ops if w.op != "delete").strip() == after


def test_words_are_whole_and_a_new_end_leaves_the_last_word_alone() -> None:
    assert word_ops("Name the harm", "Name a harm clearly") == (
        ("equal", "Name "), ("delete", "the "), ("insert", "a "), ("equal", "harm "), ("insert", "clearly "))
    assert [w.op for w in word_ops("a b", "a  b")] == ["delete", "insert", "equal"]


def test_a_huge_rewrite_is_one_replacement() -> None:
    assert [w.op for w in word_ops("a " * 9_000, "b " * 9_000)] == ["delete", "insert"]


@pytest.mark.parametrize(("change", "chains", "steps"), [
    ("edit", 0.2275, 0.1468), ("remove", 0.2275, 0.1468), ("add", 0.2153, 0.1387), ("reweigh", 0.2030, 0.1305)])
def test_the_shares_of_one_change_of_sixteen(change: str, chains: float, steps: float) -> None:
    c = sixteen()
    first, *rest = c.principles
    after = {
        "edit": having(c, first.model_copy(update={"critique": "Other"}), *rest), "remove": having(c, *rest),
        "add": having(c, *c.principles, first.model_copy(update={"id": "new"})),
        "reweigh": having(c, first.model_copy(update={"weight": 2.0}), *rest),
    }[change]
    touched = {t.asset: t for t in touches(diff(c, after), rounds=ROUNDS)}
    assert touched["revisions"].chains == pytest.approx(chains, abs=1e-4)
    assert touched["revisions"].rows == pytest.approx(steps, abs=1e-4)
    assert touched["critiques"] == touched["revisions"]._replace(asset="critiques")
    assert list(touched) == ["critiques", "revisions", "sl_dataset", "sl_policy", "response_pairs", "preference_pairs",
                             "reward_model", "rl_policy", "evaluation", "suite_results", "round_quality",
                             *(STRESSED if change in {"add", "remove"} else SHOWN)]
    assert touched["round_quality"].chains == touched["revisions"].chains


def test_a_preference_edit_leaves_the_supervised_half_alone() -> None:
    touched = {t.asset: t for t in touches(diff(sixteen(), sixteen(preference="Which is kinder?")))}
    assert list(touched) == ["preference_pairs", "reward_model", "rl_policy", "evaluation", "suite_results", *STRESSED]
    assert touched["preference_pairs"].rows == pytest.approx(1 / 16)


def test_an_evaluation_edit_touches_the_judgments_and_nothing_that_is_trained() -> None:
    judges = [Principle(id=f"e{i}", evaluation=f"Which, by {i}?") for i in range(4)]
    before = having(sixteen(), *sixteen().principles, *judges)
    edited = judges[0].model_copy(update={"evaluation": "Which is calmer?"})
    judged, *shown = touches(diff(before, having(before, *sixteen().principles, edited, *judges[1:])))
    assert (judged.asset, judged.rows, judged.chains) == ("evaluation", pytest.approx(1 / 4), None)
    assert [t.asset for t in shown] == [*SHOWN]
    assert judged.change == "edited e0"
    added = touches(diff(before, having(before, *before.principles, judges[0].model_copy(update={"id": "e9"}))))
    assert [(t.asset, t.rows) for t in added] == [("evaluation", pytest.approx(1 / 5)), *((a, None) for a in SHOWN)]
    gone = diff(before, sixteen())
    assert {t.asset for t in touches(gone)} == {"evaluation", *SHOWN}
    assert "adherence is no longer measured" in together(gone)[0].reason


@pytest.mark.parametrize("change", [
    {"rubric": "Is it warm?"}, {"weight": 2.0}, {"gate": True}, {"check": Check(max_words=9)}])
def test_a_rule_that_only_rewards_touches_the_policy_that_it_may_reward(change: dict[str, Any]) -> None:
    rule = Principle(id="kind", rubric="Is it kind?")
    before, after = (having(sixteen(), *sixteen().principles, r) for r in (rule, rule.model_copy(update=change)))
    touched = {t.asset: t for t in touches(diff(before, after))}
    assert touched["rl_policy"].rows is None
    assert "where rl.reward is rubric" in touched["rl_policy"].reason
    assert "evaluation" in touched
    assert not {"critiques", "preference_pairs", "reward_model", "sl_policy"} & touched.keys()


def test_a_revision_request_stands_in_no_critique_prompt_of_its_round() -> None:
    touched = {t.asset: t for t in touches(diff(sixteen(), sixteen(revision="Rewrite.")), rounds=ROUNDS)}
    assert touched["critiques"].chains == pytest.approx(1 - (15 / 16) ** 3)
    assert touched["revisions"].chains == pytest.approx(1 - (15 / 16) ** 4)
    only = touches(diff(sixteen(), sixteen(revision="Rewrite.")), rounds=1)
    assert only[0].asset == "revisions"


def test_new_examples_touch_every_row_of_their_phase() -> None:
    c = sixteen()
    shot = {"prompt": "Q", "a": "x", "b": "y", "request": "Which?", "choice": "A"}
    labels = Constitution.model_validate({**c.model_dump(), "few_shots": {"preference": [shot]}})
    found = diff(c, labels)
    assert found.shots[0].label == "few-shot examples for preference"
    assert ("example 1 prompt", None, "Q") in found.shots[0].texts
    assert next(t.rows for t in touches(found) if t.asset == "preference_pairs") == 1
    assert "sl_policy" not in {t.asset for t in touches(found)}
    shot = dict.fromkeys(("prompt", "response", "critique_request", "critique", "revision_request", "revision"), "x")
    revision = diff(c, Constitution.model_validate({**c.model_dump(), "few_shots": {"revision": [shot]}}))
    assert [(t.rows, t.chains) for t in touches(revision)][:2] == [(1, 1), (1, 1)]


def test_examples_without_a_principle_of_their_phase_touch_nothing() -> None:
    only = Principle(id="a", preference="Which?")
    shot = dict.fromkeys(("prompt", "response", "critique_request", "critique", "revision_request", "revision"), "x")
    before = Constitution(name="c", version="v1", principles=(only,))
    after = Constitution.model_validate({**before.model_dump(), "few_shots": {"revision": [shot]}})
    assert touches(diff(before, after)) == []


def test_removing_the_last_principle_of_a_phase_is_said() -> None:
    a, b = Principle(id="a", preference="Which?"), Principle(id="b", critique="Bad?", revision="Better.")
    c = Constitution(name="c", version="v1", principles=(a, b))
    label = next(t for t in touches(diff(c, having(c, b))) if t.asset == "preference_pairs")
    assert label.rows == 1
    assert "no principle is left" in label.reason


def test_an_edited_and_reweighted_principle_has_both_changes() -> None:
    found = diff(sixteen(), sixteen(critique="Other", weight=3))
    assert [c.label for c in found.changes] == ["edited p15", "re-weighted p15 1 → 3"]
    assert [t.field for t in found.changes[0].texts] == ["critique"]
    assert found.changes[1].texts == ()
    assert found.unchanged == 15


def test_the_same_factor_on_all_weights_touches_nothing_together() -> None:
    c = sixteen()
    found = diff(c, having(c, *(p.model_copy(update={"weight": 3.0}) for p in c.principles)))
    assert len(found.changes) == 16
    assert together(found) == []


some_weights = st.dictionaries(st.sampled_from("abcdef"), st.floats(0.1, 10))


@settings(max_examples=25)
@given(some_weights, some_weights, st.sets(st.sampled_from("abcdef")))
def test_theory_is_what_draws_do(before: dict[str, float], after: dict[str, float], edited: set[str]) -> None:
    t = draws_touched(before, after, edited)
    if not (before and after):
        assert t == bool(before or after)
        return
    keys = [critique_key(f"prompt-{i}", 1) for i in range(2_000)]
    drawn = [draw_many([Principle(id=i, weight=w, preference="?") for i, w in ws.items()], keys)
             for ws in (before, after)]
    touched = [x.id != y.id or x.id in edited for x, y in zip(*drawn, strict=True)]
    assert sum(touched) / len(touched) == pytest.approx(t, abs=0.06)  # five standard errors


@given(some_weights, some_weights)
def test_draws_touched_is_a_share_and_the_same_both_ways(before: dict[str, float], after: dict[str, float]) -> None:
    t = draws_touched(before, after)
    assert 0 <= t <= 1
    assert t == pytest.approx(draws_touched(after, before), abs=1e-9)


@given(st.floats(0, 1), st.integers(1, 16))
def test_more_chains_than_steps_are_touched_and_more_steps_than_draws(t: float, rounds: int) -> None:
    assert share_of_chains(t, rounds) + 1e-9 >= share_of_steps(t, rounds) >= t - 1e-9
