"""The share of valid thoughts by policy: what training did to it is told, and too little is no evidence."""

from __future__ import annotations

import polars as pl

from cai_assets.evals.statistics import Telling
from cai_assets.evals.traces import traces

TELLING = Telling(0.95, 20)


def rows(policy: str, states: list[str | None]) -> pl.DataFrame:
    return pl.DataFrame({"policy": policy, "behaviour": [f"b{i}" for i in range(len(states))], "thought_state": states},
                        schema_overrides={"thought_state": pl.String})


def test_a_policy_that_lost_its_thoughts_is_worse_than_the_base() -> None:
    found = traces(pl.concat([rows("base", ["valid"] * 38 + ["unclosed", "repeated"]),
                              rows("sl_policy", ["valid"] * 10 + ["none"] * 20 + ["empty"] * 10),
                              rows("rl_policy", ["valid"] * 38 + ["unclosed", "none"])]), TELLING)
    base, sl, rl = found
    assert base.verdict is None
    assert base.valid.value == 0.95
    assert base.states == {"none": 0, "valid": 38, "empty": 0, "repeated": 1, "unclosed": 1}
    assert sl.verdict == "worse"
    assert sl.delta
    assert round(sl.delta.value or 0, 6) == -0.7
    assert rl.verdict == "no difference seen"
    assert "20 none, 10 empty" in str(sl)
    assert "-0.700 against base: worse" in str(sl)


def test_few_requests_and_answers_without_a_state_are_no_evidence() -> None:
    few = traces(pl.concat([rows("base", ["valid"] * 5 + [None]), rows("sl_policy", ["none"] * 5 + [None])]), TELLING)
    assert [t.valid.n for t in few] == [5, 5]
    assert few[1].verdict == "too few to tell"


def test_policies_that_do_not_think_have_no_traces() -> None:
    assert traces(rows("base", ["valid"]).drop("thought_state"), TELLING) == []
