"""What the changes between two constitutions do to each asset.

Guarantee: a row or checkpoint that no touch names keeps its key; but documents about principles, where settings ask for
them, are told by the plan alone. Shares are expectations over prompts, and upper bounds
of the work: where a new critique, revision or label comes out as before, nothing below it changes.

Shares, derived. Principle i draws with rate w_i: in a rendezvous draw ``E_i / w_i`` is smallest for the winner, E_i
independent and exponential with mean 1, the same before and after. With weights w before and v after, i wins both
draws if E_j > E_i * max(w_j / w_i, v_j / v_i) for every j != i, so with probability

    k_i = 1 / sum_j max(w_j / w_i, v_j / v_i)          (the term of j = i is 1)

and a draw is touched with probability t = 1 - sum of k_i over the principles in both whose text is the same. Special
cases, W the sum of weights: edit or remove one, t = w/W; add one, t = w'/(W + w'); change one weight, t = |its new
share - its old share|. Rounds draw independently and a touched step touches all that follow it in its chain, so step
k of a chain is touched with probability 1 - (1 - t)^k, and a chain of R rounds with 1 - (1 - t)^R. A revision request
stands in no critique prompt: the critique of round k is touched with 1 - (1 - t)^(k-1) (1 - c), c being t without
those draws whose revision request alone changed. An evaluation request touches only judgments of policies, t of
them: one draw for each evaluation prompt.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import NamedTuple

from cai_assets.assets import ASSETS, CHECKPOINTS, downstream
from cai_assets.constitution.diff import BLOCKS, Change, Diff, ShotChange, applied
from cai_assets.constitution.digest import REQUESTS, question_of, reward_digest
from cai_assets.constitution.model import Constitution, Use

Effect = tuple[float | None, float | None, str]  # rows, chains and reason, as of a Touch
ROUNDING = 1e-12

REASONS = {
    "added": "takes its share of draws from the others",
    "removed": "its draws go to the others",
    "edited": "its request is in the prompt of every row that drew it",
    "re-weighted": "draws move to or from it",
    "shots": "the examples are in every prompt of this phase",
    "all": "different draws, requests, or examples",
}

STRESSED = "the pairs of the principles whose question changed, where stress.prompts_per_pair asks for any"
CANNOT = "no principle is left for this phase, so it cannot be materialized"
COUNTED_AGAIN = "votes (labels.principles) and rewards by principles count the priorities: no call, but labels may flip"
REWARDED = "retrained on new rewards, where rl.reward is rubric or, for a check, rl.checks is set"
NEW_POLICIES = "new policies respond and are judged; rows of other policies are reused"
# What a table comes to whose calls new policies answer.
BY_POLICIES: Mapping[str, Effect] = {
    "response_pairs": (1.0, None, "resampled from sl_policy"),
    "evaluation": (None, None, NEW_POLICIES), "suite_results": (None, None, NEW_POLICIES),
    "constitution_tests": (None, None, "its own cases, and the answers of the new rl_policy"),
}
NONE_LEFT: dict[Use, str] = {"critique": CANNOT, "preference": CANNOT,
                             "evaluation": "no principle is left to judge by, so adherence is no longer measured"}


class Touch(NamedTuple):
    """What one change does to one asset.

    ``rows``: expected share of the asset's rows that are made again (1.0 for a training; None where settings decide).
    ``chains``: expected share of the chains of red-team prompts, for the assets that have chains.
    """

    change: str
    asset: str
    rows: float | None
    chains: float | None
    reason: str


def touches(found: Diff, *, rounds: int = 4) -> list[Touch]:
    """What each change, alone, touches: assets in the order of the graph. Cosmetic ones touch nothing."""
    counting: list[Change | ShotChange] = [*found.shots, *found.changes]
    return [t for change in counting
            for t in _between(found.before, applied(found.before, change), change.label,
                              REASONS[change.kind if isinstance(change, Change) else "shots"], rounds)]


def together(found: Diff, *, rounds: int = 4) -> list[Touch]:
    """What all changes together touch: not the sum, since one draw may be touched twice."""
    return _between(found.before, found.after, "all together", REASONS["all"], rounds)


def draws_touched(before: Mapping[str, float], after: Mapping[str, float], edited: Collection[str] = ()) -> float:
    """Share t of draws whose winner, or its text, is another. Weights by id; ``edited``: ids with another text.

    In the order of v_i / w_i the maxima of k_i are w_j / w_i up to i and v_j / v_i after it: two running sums.
    """
    def ratio(i: str) -> tuple[float, str]:
        return (after.get(i, 0.0) / before[i] if i in before else float("inf")), i

    ids = sorted(before.keys() | after.keys(), key=ratio)
    up_to, beyond, kept = 0.0, sum(after.values()), 0.0
    for i in ids:
        w, v = before.get(i, 0.0), after.get(i, 0.0)
        up_to, beyond = up_to + w, max(beyond - v, 0.0)
        if w and v and i not in edited:
            kept += 1 / (up_to / w + beyond / v)
    return 1 - kept if ids and 1 - kept > ROUNDING else 0.0


def share_of_chains(t: float, rounds: int, c: float | None = None) -> float:
    """Chains with a touched step: 1 - (1 - t)^(R-1) (1 - c); ``c``: share of touched draws that count, if not ``t``."""
    return 1 - (1 - t) ** (rounds - 1) * (1 - (t if c is None else c))


def share_of_steps(t: float, rounds: int, c: float | None = None) -> float:
    """Steps touched: the mean over rounds k of ``share_of_chains(t, k, c)``."""
    return sum(share_of_chains(t, k, c) for k in range(1, rounds + 1)) / rounds


def _draws(before: Constitution, after: Constitution, use: Use, fields: tuple[str, ...]) -> float:
    old, new = ({p.id: p for p in c.taking_part(use)} for c in (before, after))
    if not (old or new):
        return 0.0
    block = BLOCKS.get(use)
    if block and getattr(before.few_shots, block) != getattr(after.few_shots, block):
        return 1.0
    edited = [i for i in old.keys() & new.keys() if any(getattr(old[i], f) != getattr(new[i], f) for f in fields)]
    return draws_touched({i: p.weight for i, p in old.items()}, {i: p.weight for i, p in new.items()}, edited)


def _between(before: Constitution, after: Constitution, change: str, reason: str, rounds: int) -> list[Touch]:
    def why(use: Use) -> str:
        return reason if after.taking_part(use) else NONE_LEFT[use]

    asked = _where_asked(before, after)
    t = _draws(before, after, "critique", REQUESTS["critique"])
    labels = _draws(before, after, "preference", REQUESTS["preference"])
    if t:
        c = _draws(before, after, "critique", ("critique",))
        chains = share_of_chains(t, rounds)
        return _touched(change, {
            "critiques": (share_of_steps(t, rounds, c), share_of_chains(t, rounds, c), why("critique")),
            "revisions": (share_of_steps(t, rounds), chains, why("critique")),
            "sl_dataset": (None, chains, "contains the revisions of those chains"),
            "preference_pairs": (1.0, None, "labels for new responses"),
            "round_quality": (None, chains, "new revisions are judged")}, asked)
    if labels:
        return _touched(change, {"preference_pairs": (labels, None, why("preference"))}, asked)
    if _priorities(before) != _priorities(after):
        return _touched(change, {"preference_pairs": (None, None, COUNTED_AGAIN)}, asked)
    if judged := _draws(before, after, "evaluation", REQUESTS["evaluation"]):
        return _touched(change, {"evaluation": (judged, None, why("evaluation")),
                                 "constitution_tests": (None, None, "its own cases")}, asked)
    return _touched(change, {}, asked)


def _where_asked(before: Constitution, after: Constitution) -> dict[str, Effect]:
    """What the change does where settings ask for more than the recipe's own. A policy that is new anyway has its
    reason from that."""
    reasons = {"stress": (_questions, STRESSED), "rl_policy": (_rewards, REWARDED)}
    return {asset: (None, None, reason) for asset, (read, reason) in reasons.items() if read(before) != read(after)}


def _rewards(c: Constitution) -> dict[str, tuple[str, float, bool]]:
    rules = [p for p in c.principles if p.check or question_of(p)]
    whole = sum(p.weight for p in rules)
    return {p.id: (reward_digest(p), round(p.weight / whole, 12), p.gate) for p in rules}


def _questions(c: Constitution) -> dict[str, str]:
    """By which single responses are judged."""
    return {p.id: question for p in c.principles if (question := question_of(p))}


def _priorities(c: Constitution) -> dict[str, int]:
    """Only which of two tiers is the higher counts, among principles that vote or reward."""
    taking = [p for p in c.principles if p.preference or p.rubric or p.check]
    ranks = {tier: n for n, tier in enumerate(sorted({p.priority for p in taking}))}
    return {p.id: ranks[p.priority] for p in taking}


def _touched(change: str, certain: Mapping[str, Effect], asked: Mapping[str, Effect]) -> list[Touch]:
    """The assets that a change touches in a way of their own, and all that is made from them."""
    new = downstream(certain)
    known = {**{name: effect for name, effect in asked.items() if name not in new}, **certain}
    reached = downstream(known)
    every = {name: known.get(name) or _of_any(name, reached) for name in reached}
    return [Touch(change, name, rows, chains, reason) for name, (rows, chains, reason) in every.items() if rows != 0.0]


def _of_any(name: str, reached: Collection[str]) -> Effect:
    """The effect on an asset of what is new above it. ``reached``: all assets that are touched."""
    asset = ASSETS[name]
    above = [n for n in asset.reads if n in reached]
    trained = [n for n in above if n in CHECKPOINTS]
    if asset.kind == "training":
        new = f": {' and '.join(trained)} {'are' if len(trained) > 1 else 'is'} new" if trained else ""
        return 1.0, None, f"retrained{new or f' on {above[0]}'}"
    if asset.kind == "view":
        return None, None, "shows what is new upstream"
    if name in BY_POLICIES:
        return BY_POLICIES[name]
    return None, None, f"recomputed from new {' and '.join(above)}"
