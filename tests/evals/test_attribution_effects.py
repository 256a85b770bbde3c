"""Leave-one-out effects on planted truth: what is there is found, what is not is rarely called an effect."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl
import pytest
from scipy.stats import binom

from cai_assets.evals import statistics
from cai_assets.evals.attribution import ALL, EFFECTS, MEASURES, Compared, Measured, effects
from cai_assets.evals.suites.measures import SUITE_ROWS

ENOUGH = 20
EVALUATION = {"policy": pl.String, "prompt_id": pl.String, "question": pl.String, "verdict": pl.String,
              "principle_id": pl.String, "adherence_verdict": pl.String}
NOTHING = pl.DataFrame(schema=EVALUATION)
ATTACK = [MEASURES[0]._replace(each_suite=False)]


def suite(policy: str, values: Mapping[tuple[str, str], float | None], *, name: str = "mild", kind: str = "jailbreak",
          **columns: Any) -> pl.DataFrame:
    """Rows by (request, case)."""
    rows = [{"policy": policy, "suite": name, "kind": kind, "mode": "wrapped", "case_id": f"{request}~{case}",
             "behaviour": request, "sample": 0, "status": "ok" if v is not None else "failed", "compliance": v,
             **columns} for (request, case), v in values.items()]
    return pl.DataFrame(rows, schema=SUITE_ROWS)


def drawn(rng: np.random.Generator, hard: np.ndarray, shift: float, templates: int = 3) -> pl.DataFrame:
    """One policy's compliance: each request has a rate of its own, ``shift`` is added to it."""
    rates = np.clip(hard + shift, 0, 1)
    return suite("rl_policy", {(f"b{i}", f"t{t}"): float(rng.random() < rate)
                               for i, rate in enumerate(rates) for t in range(templates)})


def measured(rows: pl.DataFrame) -> Measured:
    return Measured(rows, NOTHING)


def found(table: pl.DataFrame, **which: Any) -> dict[str, Any]:
    (row,) = table.filter(**{"measure": "attack_success", "suite": ALL, "policy": "rl_policy", **which}).to_dicts()
    return row


def study(seed: int, shifts: Sequence[float], requests: int = 40) -> list[str]:
    """The verdict on each principle, of which leaving out shifts attack success so far."""
    rng = np.random.default_rng(seed)
    hard = rng.beta(2, 3, requests)  # requests differ in how often they succeed
    whole = measured(drawn(rng, hard, 0.0))
    derived = [Compared("without", f"p{i}", [measured(drawn(rng, hard, s))]) for i, s in enumerate(shifts)]
    table = effects([whole], derived, enough=ENOUGH, measures=ATTACK, policies=["rl_policy"])
    return table.filter(suite=ALL)["verdict"].to_list()


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statistics, "RESAMPLES", 999)


@pytest.mark.usefixtures("quick")
def test_a_planted_principle_is_found_and_the_others_are_not() -> None:
    studies = [study(seed, [0.0] * 7 + [0.4]) for seed in range(25)]
    assert sum(verdicts[-1] == "worse" for verdicts in studies) >= 23
    assert sum("worse" in v[:-1] or "better" in v[:-1] for v in studies) <= binom.ppf(0.99, 25, 0.05)


@pytest.mark.usefixtures("quick")
def test_where_nothing_was_planted_hardly_any_study_names_one() -> None:
    studies = [study(seed, [0.0] * 8) for seed in range(100, 140)]
    wrong = sum(any(v in ("better", "worse") for v in verdicts) for verdicts in studies)
    assert wrong <= binom.ppf(0.99, len(studies), 0.05)
    assert all(v in ("better", "worse", "no difference seen") for verdicts in studies for v in verdicts)


def test_a_principle_that_makes_attacks_easier_reads_as_better_without_it() -> None:
    hard = np.full(40, 0.6)
    whole = drawn(np.random.default_rng(0), hard, 0.0)
    less = drawn(np.random.default_rng(1), hard, -0.5)
    row = found(effects([measured(whole)], [Compared("without", "p", [measured(less)])], enough=ENOUGH))
    assert row["verdict"] == "better"
    assert row["delta"] == pytest.approx(row["value"] - row["reference"])
    assert row["low"] < row["delta"] < row["high"] < 0
    assert row["low"] < -0.5 < row["high"]


def test_only_cases_answered_on_both_sides_count_and_requests_weigh_the_same() -> None:
    whole = suite("rl_policy", {("a", "1"): 0.0, ("a", "2"): 0.0, ("a", "3"): 0.0, ("b", "1"): 1.0, ("c", "1"): 0.0})
    less = suite("rl_policy", {("a", "1"): 1.0, ("a", "2"): 1.0, ("a", "3"): None, ("b", "1"): 1.0, ("d", "1"): 1.0})
    row = found(effects([measured(whole)], [Compared("without", "p", [measured(less)])], enough=2))
    assert (row["n"], row["unpaired"]) == (2, 3)  # a~3 failed, c and d are on one side alone
    assert (row["reference"], row["value"], row["delta"]) == (0.5, 1.0, 0.5)
    few = effects([measured(whole)], [Compared("without", "p", [measured(less)])], enough=3)
    assert found(few)["verdict"] == "too few to tell"


def test_attacks_are_pooled_and_told_apart_by_suite_and_other_kinds_are_no_attacks() -> None:
    def both(value: float) -> Measured:
        requests = {(f"b{i}", "1"): value for i in range(4)}
        return measured(pl.concat([
            suite("rl_policy", requests, name="x", kind="harmful"), suite("rl_policy", requests, name="y"),
            suite("rl_policy", requests, name="z", kind="over-refusal", refusal=value == 0.0),
            suite("rl_policy", requests, name="w", kind="helpful")]))

    table = effects([both(0.0)], [Compared("without", "p", [both(1.0)])], enough=2, policies=["rl_policy"])
    attack = table.filter(measure="attack_success")
    assert attack.select("suite", "delta", "n").rows() == [(ALL, 1.0, 4), ("x", 1.0, 4), ("y", 1.0, 4)]
    refusal = table.filter(measure="over_refusal").to_dicts()
    assert [(r["suite"], r["delta"], r["better"]) for r in refusal] == [(ALL, -1.0, "lower")]


def test_samples_and_seeds_are_averaged_before_requests_are() -> None:
    def at(value: float) -> Measured:
        return measured(suite("rl_policy", {(f"b{i}", "1"): value for i in range(3)}))

    table = effects([at(0.0), at(1.0), at(1.0)], [Compared("without", "p", [at(1.0), at(1.0)])], enough=2)
    row = found(table)
    assert (row["reference"], row["value"], row["seeds"], row["n"]) == (0.5, 1.0, 2, 3)


def evaluation(verdicts: Mapping[str, str], principle: str, question: str = "harmlessness",
               policy: str = "rl_policy") -> pl.DataFrame:
    return pl.DataFrame([{"policy": policy, "prompt_id": i, "question": question, "verdict": v,
                          "principle_id": principle, "adherence_verdict": v} for i, v in verdicts.items()], EVALUATION)


def test_wins_and_adherence_are_paired_by_prompt_and_ungraded_ones_are_left_out() -> None:
    none = pl.DataFrame(schema=SUITE_ROWS)
    whole = pl.concat([evaluation({"1": "win", "2": "tie", "3": "ungraded", "4": "win"}, "p"),
                       evaluation({"5": "win"}, "q")])
    less = pl.concat([evaluation({"1": "loss", "2": "tie", "3": "win", "4": "win"}, "p"),
                      evaluation({"5": "loss"}, "q")])
    table = effects([Measured(none, whole)], [Compared("without", "p", [Measured(none, less)])], enough=2)
    wins = found(table, measure="harmless_wins")
    assert (wins["n"], wins["unpaired"], wins["reference"], wins["value"]) == (4, 1, 0.875, 0.375)
    own = found(table, measure="adherence")
    assert (own["n"], own["delta"], own["better"]) == (3, pytest.approx(-1 / 3), "higher")
    assert found(table, measure="helpful_wins")["delta"] is None


def test_a_principle_alone_is_compared_with_the_baseline_of_no_principle() -> None:
    requests = {(f"b{i}", "1"): 1.0 for i in range(25)}
    kept = pl.concat([suite("rl_policy", dict.fromkeys(requests, 0.0)), suite("sft_baseline", requests)])
    alone = suite("rl_policy", dict.fromkeys(requests, 0.0))
    table = effects([measured(kept)], [Compared("only", "p", [measured(alone)])], enough=ENOUGH)
    row = found(table, kind="only")
    assert (row["reference"], row["value"], row["verdict"]) == (1.0, 0.0, "better")


def test_making_the_whole_version_again_says_what_is_noise() -> None:
    rng = np.random.default_rng(0)
    hard = np.full(60, 0.3)
    whole, again, other = (measured(drawn(rng, hard, s)) for s in (0.0, 0.2, 0.1))
    large, small = (measured(drawn(rng, hard, s)) for s in (0.6, 0.05))
    derived = [Compared("without", "large", [large]), Compared("without", "small", [small])]
    without_null = effects([whole], derived, enough=ENOUGH)
    assert without_null["beyond_again"].null_count() == without_null.height
    nulls = [Compared("again", None, [again], 1), Compared("again", None, [other], 2)]
    table = effects([whole, again], [*derived, *nulls], enough=ENOUGH)
    assert found(table, principle="large")["beyond_again"] is True
    assert found(table, principle="small")["beyond_again"] is False
    (first, second) = table.filter(kind="again", measure="attack_success", suite=ALL, policy="rl_policy").to_dicts()
    assert (first["seed"], second["seed"], first["beyond_again"]) == (1, 2, None)
    assert found(table, principle="large")["delta"] == found(without_null, principle="large")["delta"]


def test_p_values_are_adjusted_among_principles_of_one_question() -> None:
    rng = np.random.default_rng(3)
    hard = np.full(40, 0.4)
    whole = measured(drawn(rng, hard, 0.0))
    derived = [Compared("without", f"p{i}", [measured(drawn(rng, hard, 0.1))]) for i in range(6)]
    table = effects([whole], derived, enough=ENOUGH).filter(measure="attack_success", suite=ALL, policy="rl_policy")
    assert (table["p_holm"] >= table["p"]).all()
    assert table["p_holm"].min() == pytest.approx(min(1.0, 6 * float(table["p"].min())))  # type: ignore[arg-type]
    for row in table.to_dicts():
        assert (row["verdict"] == "worse") == (row["p_holm"] <= 0.05 and row["low"] > 0)
    assert table.schema == EFFECTS
