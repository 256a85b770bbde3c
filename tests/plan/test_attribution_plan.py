"""What leaving out one principle touches, against the theory; draws alone, no engine."""

from __future__ import annotations

import math
from pathlib import Path

import polars as pl
import pytest

from cai_assets.constitution.derive import family, only, without
from cai_assets.constitution.draw import critique_key, draw
from cai_assets.constitution.load import load_file
from cai_assets.constitution.model import Constitution
from cai_assets.plan.attribution import expected, touched

HARMLESSNESS = load_file(Path(__file__).parents[2] / "constitutions" / "harmlessness.yaml")
SERVICE = load_file(Path(__file__).parents[2] / "constitutions" / "customer-service.yaml")
PROMPTS, ROUNDS = 400, 4


def drawn(c: Constitution, prompts: int = PROMPTS, rounds: int = ROUNDS) -> pl.DataFrame:
    principles = c.taking_part("critique")
    return pl.DataFrame([{"prompt_id": f"p{i}", "round": r,
                          "principle_id": draw(principles, critique_key(f"p{i}", r)).id}
                         for i in range(prompts) for r in range(1, rounds + 1)])


def test_theory_of_leaving_out_one_of_sixteen() -> None:
    assert len(HARMLESSNESS.taking_part("critique")) == 16
    for p in HARMLESSNESS.principles:
        share = expected(HARMLESSNESS, without(HARMLESSNESS, p.id), ROUNDS)
        assert share.chains == pytest.approx(1 - (15 / 16) ** 4) == pytest.approx(0.2275, abs=1e-4)
        assert share.steps == pytest.approx(0.1468, abs=1e-4)


def test_draws_of_a_few_hundred_prompts_are_near_the_theory() -> None:
    critiques = drawn(HARMLESSNESS)
    shares = [touched(critiques, d) for d in family(HARMLESSNESS)[0]]
    assert len(shares) == 16
    for share in shares:  # four standard errors each
        assert share.chains == pytest.approx(0.2275, abs=4 * math.sqrt(0.2275 * 0.7725 / PROMPTS))
        assert share.steps < share.chains
    assert sum(s.chains for s in shares) / 16 == pytest.approx(0.2275, abs=0.01)
    assert sum(s.steps for s in shares) / 16 == pytest.approx(0.1468, abs=0.01)


def test_what_is_touched_is_what_drawing_again_changes() -> None:
    before = drawn(SERVICE, 200)
    for derived in (without(SERVICE, "hand-over"), only(SERVICE, "hand-over")):
        moved = before["principle_id"] != drawn(derived.constitution, 200)["principle_id"]
        chains = before.select("prompt_id", moved=moved).group_by("prompt_id").agg(pl.col("moved").any())
        share = touched(before, derived)
        assert share.chains == chains["moved"].mean()
        assert share.steps >= moved.mean()  # type: ignore[operator]
    assert touched(before, only(SERVICE, "hand-over")).chains > 0.9
    assert expected(SERVICE, only(SERVICE, "hand-over"), ROUNDS).chains == pytest.approx(1 - 0.2 ** ROUNDS)


def test_a_principle_that_stays_for_critique_touches_no_chain() -> None:
    alone = SERVICE.model_copy(update={"principles": tuple(
        p if p.id == "hand-over" else p.model_copy(update={"critique": None, "revision": None})
        for p in SERVICE.principles)})
    derived = without(alone, "hand-over")
    assert derived.kept == ("critique",)
    assert touched(drawn(alone, 50), derived) == (expected(alone, derived, ROUNDS))
    assert touched(drawn(alone, 50), derived).chains == 0.0


def test_another_seed_makes_everything_new() -> None:
    derived, why = family(SERVICE, ["hand-over"], alone=True, seeds=2)
    assert [d.label for d in derived] == [
        "the whole version again, seed +1", "without hand-over", "without hand-over, seed +1", "only hand-over",
        "only hand-over, seed +1"]
    assert why == []
    assert [touched(drawn(SERVICE, 50, 1), d).steps == 1.0 for d in derived] == [True, False, True, False, True]
    assert [d.label for d in family(SERVICE, ["hand-over"], null=True)[0]] == [
        "the whole version again, seed +1", "without hand-over"]
    assert len(family(SERVICE)[0]) == len(SERVICE.principles)
    with pytest.raises(KeyError, match="it has"):
        family(SERVICE, ["nobody"])
