"""Derived constitutions: what is left out, what stays, what they are called."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cai_assets.constitution.derive import CannotDerive, again, only, without
from cai_assets.constitution.digest import digest
from cai_assets.constitution.draw import critique_key, draw, evaluation_key
from cai_assets.constitution.load import load_file
from cai_assets.constitution.model import SLUG, Constitution, Principle

SHIPPED = {p.stem: load_file(p) for p in (Path(__file__).parents[2] / "constitutions").glob("*.yaml")
           if not p.name.endswith(".tests.yaml")}
SERVICE = SHIPPED["customer-service"]
KEYS = [f"prompt-{i}" for i in range(400)]


def principle(name: str, *uses: str) -> Principle:
    texts = {"critique": "Criticise.", "revision": "Revise.", "preference": "Which?", "evaluation": "Judge."}
    wanted = {request for use in uses for request in ((use, "revision") if use == "critique" else (use,))}
    return Principle(id=name, **{k: v for k, v in texts.items() if k in wanted})


def constitution(*principles: Principle, name: str = "mild", version: str = "v1") -> Constitution:
    return Constitution(name=name, version=version, principles=principles)


def test_without_takes_part_in_no_training_and_goes_on_judging() -> None:
    derived = without(SERVICE, "no-false-promises")
    c = derived.constitution
    for use in ("critique", "preference"):
        assert [p.id for p in c.taking_part(use)] == [
            p.id for p in SERVICE.taking_part(use) if p.id != "no-false-promises"]
    assert c.taking_part("evaluation") == tuple(
        p.model_copy(update={"critique": None, "revision": None, "preference": None})
        for p in SERVICE.taking_part("evaluation"))
    assert c.few_shots == SERVICE.few_shots
    assert (derived.kept, c.version) == ((), SERVICE.version)
    assert c.name == "customer-service-without-no-false-promises"
    assert [p.id for p in without(SERVICE, "hand-over").constitution.principles] == [
        p.id for p in SERVICE.principles if p.id != "hand-over"]


def test_leaving_one_out_moves_only_its_own_draws() -> None:
    for c in SHIPPED.values():
        for p in c.taking_part("critique"):
            less = without(c, p.id).constitution
            assert [draw(less.taking_part("evaluation"), evaluation_key(k)).id for k in KEYS[:50]] == [
                draw(c.taking_part("evaluation"), evaluation_key(k)).id for k in KEYS[:50]
            ] if c.taking_part("evaluation") else True
            for k in KEYS[:50]:
                before = draw(c.taking_part("critique"), critique_key(k, 1)).id
                after = draw(less.taking_part("critique"), critique_key(k, 1)).id
                assert before in (after, p.id)


def test_only_trains_with_one_and_judges_with_all() -> None:
    c = only(SERVICE, "hand-over").constitution
    assert [p.id for p in c.taking_part("critique")] == [p.id for p in c.taking_part("preference")] == ["hand-over"]
    assert [p.id for p in c.taking_part("evaluation")] == [p.id for p in SERVICE.taking_part("evaluation")]
    assert c.few_shots == SERVICE.few_shots


def test_again_is_the_same_content_under_another_key() -> None:
    first, second = again(SERVICE, 1), again(SERVICE, 2)
    assert digest(first.constitution) == digest(SERVICE) == digest(second.constitution)
    assert len({first.key, second.key}) == 2
    with pytest.raises(ValueError, match="another seed"):
        again(SERVICE, 0)


def test_a_last_principle_stays_where_it_is_needed_and_says_so() -> None:
    c = constitution(principle("a", "critique", "preference"), principle("b", "critique"))
    derived = without(c, "a")
    assert derived.kept == ("preference",)
    assert [p.id for p in derived.constitution.taking_part("critique")] == ["b"]
    assert [p.id for p in derived.constitution.taking_part("preference")] == ["a"]


@pytest.mark.parametrize(("c", "act", "target", "said"), [
    (constitution(principle("a", "critique", "preference")), without, "a", "only principle for critique and for"),
    (constitution(principle("a", "critique", "preference"), principle("b", "evaluation")), without, "b",
     "judges finished policies"),
    (constitution(principle("a", "critique", "preference"), principle("b", "critique")), only, "b",
     "no preference request"),
    (constitution(principle("a", "critique", "preference"), principle("b", "evaluation")), only, "a",
     "equal the whole version"),
])
def test_what_would_train_nothing_is_refused_with_its_reason(c, act, target, said) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(CannotDerive, match=said):
        act(c, target)
    with pytest.raises(KeyError, match="no principle 'nobody'"):
        act(c, "nobody")


slugs = st.from_regex(SLUG, fullmatch=True)


@settings(max_examples=60)
@given(slugs, slugs, slugs, slugs, st.integers(0, 3))
def test_names_are_slugs_short_enough_and_told_apart(name: str, version: str, a: str, b: str, seed: int) -> None:
    if a == b:
        return
    c = constitution(principle(a, "critique", "preference"), principle(b, "critique", "preference"),
                     name=name, version=version)
    made = [*(f(c, p, seed) for f in (without, only) for p in (a, b)), again(c, seed + 1)]
    keys = [d.key for d in made]  # a key that is too long would raise
    # Of two principles, "without a" and "only b" train with the same one: they differ by name.
    assert len(set(keys)) == len({d.constitution.name for d in made}) == 5
    for d in made:
        assert Constitution.model_validate_json(d.constitution.model_dump_json(), strict=False) == d.constitution
