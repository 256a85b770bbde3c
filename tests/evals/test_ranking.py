"""Bradley-Terry: planted strengths are found within their intervals; what has no strength is not given one."""

import math

import numpy as np
import pytest

from cai_assets.evals import ranking
from cai_assets.evals.ranking import APART, LOST, WON, Contest, rank, strengths


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranking, "RESAMPLES", 199)


def contests(planted: dict[str, float], pairs: list[tuple[str, str]], *, prompts: int, seed: int) -> list[Contest]:
    """Comparisons whose chance follows from planted strengths, each pair once a prompt; some end in a tie."""
    rng, found = np.random.default_rng(seed), []
    for i in range(prompts):
        for a, b in pairs:
            p = 1 / (1 + math.exp(planted[b] - planted[a]))
            tie = 0.4 * min(p, 1 - p)  # half of it comes off either side, so the odds of points are the planted ones
            draw = rng.random()
            found.append(Contest(f"p{i}", a, b, 1.0 if draw < p - tie / 2 else 0.5 if draw < p + tie / 2 else 0.0))
    return found


PLANTED = {"base": 0.0, "sl": 0.5, "rl": 1.2, "other": -0.7}
STAR = [("sl", "base"), ("rl", "base"), ("other", "base"), ("rl", "sl")]


def test_planted_strengths_lie_in_their_intervals():
    hits = dict.fromkeys(PLANTED, 0)
    for seed in range(12):
        found = rank(contests(PLANTED, STAR, prompts=60, seed=seed))
        for s in found.standings:
            e = s.strength
            hits[s.policy] += s.policy == "base" or e.low <= PLANTED[s.policy] <= e.high
    assert min(hits.values()) >= 9


def test_the_table_is_in_order_and_says_what_it_rests_on():
    found = rank(contests(PLANTED, STAR, prompts=200, seed=1))
    assert [s.policy for s in found.standings] == ["rl", "sl", "base", "other"]
    assert (found.comparisons, found.prompts) == (800, 200)
    assert {s.policy: s.comparisons for s in found.standings} == {"rl": 400, "sl": 400, "base": 600, "other": 200}
    assert [s.verdict for s in found.standings] == ["better", "better", "", "worse"]
    best = found.standings[0]
    assert best.wins.value == pytest.approx(1 / (1 + math.exp(-best.strength.value)))
    assert best.wins.low < best.wins.value < best.wins.high


def test_over_two_policies_it_is_the_odds_of_the_win_rate():
    games = [Contest(f"p{i}", "rl", "base", x) for i, x in enumerate([1.0] * 13 + [0.5] * 2 + [0.0] * 5)]
    s = rank(games).standings[0]
    assert (s.policy, s.strength.n) == ("rl", 20)
    assert s.strength.value == pytest.approx(math.log(14 / 6), abs=1e-6)


def test_a_policy_that_is_as_the_reference_is_rarely_called_another():
    called = [rank(contests({"base": 0.0, "again": 0.0}, [("again", "base")], prompts=30, seed=seed)).standings
              for seed in range(25)]
    assert sum(s.verdict in ("better", "worse") for found in called for s in found) <= 4


def test_who_won_everything_has_no_strength_but_a_reason():
    games = [*contests({"base": 0.0, "sl": 0.3}, [("sl", "base")], prompts=40, seed=2),
             *(Contest(f"p{i}", "rl", "sl", 1.0) for i in range(40)),
             *(Contest(f"p{i}", "bad", "base", 0.0) for i in range(40)),
             *(Contest(f"p{i}", "x", "y", i % 2) for i in range(40))]
    found = {s.policy: s for s in rank(games).standings}
    assert found["sl"].strength.value is not None
    assert found["rl"].why.startswith(WON)
    assert found["bad"].why.startswith(LOST)
    assert found["x"].why.startswith(APART)
    assert {s.verdict for p, s in found.items() if s.strength.value is None} == {"too few to tell"}


def test_a_near_clean_sweep_has_no_upper_end():
    games = [Contest(f"p{i}", "rl", "base", float(i > 0)) for i in range(30)]
    s = rank(games).standings[0]
    assert s.strength.value == pytest.approx(math.log(29))
    assert s.strength.high == math.inf
    assert 0 < s.strength.low < s.strength.value
    assert s.wins.high == 1.0


def test_with_few_prompts_nothing_is_said():
    games = contests(PLANTED, STAR, prompts=8, seed=3)
    found = rank(games)
    assert {s.why for s in found.standings if s.policy != "base"} <= {"8 prompts, 20 needed"} | {
        s.why for s in found.standings if s.why.startswith((WON, LOST))}
    assert all(s.strength.value is None for s in found.standings if s.policy != "base")


def test_equal_wins_all_round_are_equal_strengths():
    won = np.array([[0.0, 2, 2], [2, 0, 2], [2, 2, 0]])
    assert strengths(won, 1) == pytest.approx([0, 0, 0], abs=1e-9)


def test_bad_comparisons_are_refused():
    with pytest.raises(ValueError, match="'base' takes part in no comparison; there are: a, b"):
        rank([Contest("p", "a", "b", 1.0)])
    with pytest.raises(ValueError, match="is not a comparison"):
        rank([Contest("p", "base", "b", 0.7)])
