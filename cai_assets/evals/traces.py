"""Whether policies still think: the share of valid thoughts among those asked for, and what training did to it.

Tuning on answers without thoughts can cost a model the ability to think (arXiv 2605.21127): thoughts come out empty, do
not end, or do not begin. A thought is valid if it is there once, has a text, and ends before the answer.
"""

from __future__ import annotations

from typing import NamedTuple

import polars as pl

from cai_assets.assets import BASE
from cai_assets.evals.power import with_detectable
from cai_assets.evals.statistics import Estimate, Telling, Verdict, clustered_difference, clustered_mean, told
from cai_assets.steps.thoughts import STATE, STATES


class Traces(NamedTuple):
    """``valid``: the share by request; ``delta``: against the base model on the same requests, for other policies;
    ``states``: how many thoughts are in each."""

    policy: str
    valid: Estimate
    states: dict[str, int]
    delta: Estimate | None = None
    verdict: Verdict | None = None
    told: str = ""

    def __str__(self) -> str:
        other = ", ".join(f"{n} {state}" for state, n in self.states.items() if n and state != "valid")
        against = f", {self.delta.value:+.3f} against {BASE}: {self.told}" if (
            self.delta and self.delta.value is not None) else ""
        return f"{self.policy}: {self.valid} of thoughts valid{f' ({other})' if other else ''}{against}"


def traces(rows: pl.DataFrame, telling: Telling) -> list[Traces]:
    """For each policy that keeps its thoughts. ``rows``: of suites, with ``policy``, ``behaviour`` and
    ``thought_state`` (null where no thought was asked for)."""
    if STATE not in rows.columns:
        return []
    asked = rows.filter(pl.col(STATE).is_not_null()).select("policy", "behaviour", STATE)
    of = {str(name): part for (name,), part in asked.group_by("policy", maintain_order=True)}
    base = _by_request(of[BASE]) if BASE in of else {}
    return [_of(name, part, base, telling) for name, part in of.items()]


def _of(policy: str, rows: pl.DataFrame, base: dict[str, list[float]], telling: Telling) -> Traces:
    own = _by_request(rows)
    valid = clustered_mean([v for values in own.values() for v in values],
                           [name for name, values in own.items() for _ in values], telling.confidence)
    found = dict(rows[STATE].value_counts().iter_rows())
    states = {state: int(found.get(state, 0)) for state in STATES}
    if policy == BASE or not base:
        return Traces(policy, valid, states)
    delta = clustered_difference(own, base, telling.confidence)
    verdict = told(delta, enough=telling.enough, better="higher")
    return Traces(policy, valid, states, delta, verdict, with_detectable(verdict, delta, telling))


def _by_request(rows: pl.DataFrame) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {}
    for request, state in rows.select("behaviour", STATE).iter_rows():
        found.setdefault(request, []).append(float(state == "valid"))
    return found
