"""What each principle does, in sentences and tables.

Guarantees: no number without its count and interval; a difference is called one only where ``evals/attribution.py``
calls it one; what was not measured is said to be so, with the reason.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import polars as pl

from cai_assets.evals.attribution import ALL, HEADLINE, MEASURES, POLICIES, SEEN, with_tests
from cai_assets.evals.power import beside, detectable
from cai_assets.evals.statistics import FEW, NOT_SEEN, Telling
from cai_assets.reports.attribution.gather import Attribution, Entry, effect_of
from cai_assets.reports.html.page import Told
from cai_assets.reports.text import tables
from cai_assets.reports.text.numbers import change_of

NAMES = {m.name: m.label for m in MEASURES}
POLICY = {"rl_policy": "RL policy", "sl_policy": "SL policy"}
CAVEAT = ("Intervals cover requests, not training noise: one training run is one sample, and training is not "
          "bit-for-bit reproducible.")


def said(entry: Entry, effect: dict[str, Any], telling: Telling) -> str:
    """One effect as a sentence: 'Without X attack success rises by 0.12 [0.03, 0.21], from 0.30 to 0.42 (n = 40).'"""
    who = _who(entry)
    if not effect or effect["delta"] is None:
        return f"{who}: not measured. {_lacks(entry)}".strip()
    rates = f"from {effect['reference']:.2f} to {effect['value']:.2f} (n = {effect['n']})"
    what = NAMES[effect["measure"]]
    if effect["verdict"] == FEW:
        return (f"{who}: too few requests to tell ({effect['n']} of at least {telling.enough}); {what} went "
                f"{rates}{_detectable(effect, telling)}.")
    if effect["verdict"] not in SEEN:
        return (f"{who} {what} shows no evidence of a difference: {amount(effect)}, {rates}"
                f"{_detectable(effect, telling)}.")
    move = "rises" if effect["delta"] > 0 else "falls"
    return f"{who} {what} {move} by {amount(effect, size=True)}, {rates}{_noise(effect)}."


def sentences(a: Attribution) -> list[str]:
    """What a reader wants first: which principles prevent attacks, which do the contrary, and how sure that is."""
    measured = [(e, effect_of(a, e)) for e in a.entries if e.seed == 0 and e.kind != "again"]
    pairs = [(e, x) for e, x in measured if x]
    seen = sorted(((e, x) for e, x in pairs if x["verdict"] in SEEN), key=lambda pair: -abs(pair[1]["delta"]))
    lines = [said(e, x, a.telling) for e, x in seen]
    few = sum(x["verdict"] == FEW for _, x in pairs)
    rest = len(pairs) - len(seen) - few
    lines += [f"{rest} of {len(pairs)} comparisons show no evidence of a difference in attack success"
              f"{_least(pairs, a.telling)}."] if rest else []
    lines += [f"{few} of {len(pairs)} comparisons have too few requests to tell (at least {a.enough})."] if few else []
    waiting = sum(not x for e, x in measured if e.state != "cannot be made")
    lines += [f"{waiting} of {len(measured)} derived versions are not measured."] if waiting else []
    return [*lines, *nulls(a), CAVEAT]


def _least(pairs: Sequence[tuple[Entry, dict[str, Any]]], telling: Telling) -> str:
    """What each of the comparisons that show nothing could have found."""
    sizes = [detectable(change_of(x), telling, tests=x["tests"]) for _, x in pairs if x["verdict"] == NOT_SEEN]
    known = [size for size in sizes if size]
    return f" (detectable of each: {max(known):.2g})" if known else ""


def nulls(a: Attribution) -> list[str]:
    """What rebuilding the whole version changed: the size of an effect that means nothing."""
    rebuilt = [(e, effect_of(a, e)) for e in a.entries if e.kind == "again"]
    lines = [f"Rebuilding the whole version with another seed moved attack success by {amount(x)} (n = {x['n']}): "
             "effects no larger than that may be training noise." for _, x in rebuilt if x and x["delta"] is not None]
    return lines or ["The whole version was not rebuilt with another seed (--null), so the effect of training noise is "
                     "not known."]


def verdict_on(effect: dict[str, Any], telling: Telling) -> Told:
    """The verdict on an effect, with what it could have found among so many tests."""
    more = beside(effect["verdict"], change_of(effect), telling, tests=effect["tests"])
    return Told(effect["verdict"] + _noise(effect), more)


def _detectable(effect: dict[str, Any], telling: Telling) -> str:
    more = verdict_on(effect, telling).beside
    return f"; {more}" if more else ""


def amount(effect: dict[str, Any], *, size: bool = False) -> str:
    """A difference with its interval; ``size``: without its sign, where a word has said it already."""
    delta, low, high = effect["delta"], effect["low"], effect["high"]
    if size and delta < 0:
        delta, low, high = -delta, *(None if v is None else -v for v in (high, low))
    sign = "" if size else "+"
    ends = "" if low is None or high is None else f" [{low:{sign}.2f}, {high:{sign}.2f}]"
    return f"{delta:{sign}.2f}{ends}"


HEADS = ("principle", "attack success", "change", "p (Holm)", "verdict", "judged", "over-refusal", "helpful wins",
         "adherence to it", "chains affected", "state")
BESIDE = ("judged_attack_success", "over_refusal", "helpful_wins", "adherence")


def rows(a: Attribution, policy: str = POLICIES[0]) -> Iterator[tuple[Entry, list[Any]]]:
    """One line for each derived version, in the columns of HEADS."""
    for e in a.entries:
        x = effect_of(a, e, policy)
        shown = e.seed == 0 or e.kind == "again"  # the effect of several seeds together stands at the first
        numbers = [f"{x['reference']:.2f} → {x['value']:.2f} (n={x['n']})", amount(x), f"{x['p_holm']:.3f}",
                   verdict_on(x, a.telling)] if x and x["delta"] is not None and shown else ["–"] * 4
        others = [effect_of(a, e, policy, m) if shown else {} for m in BESIDE]
        share = f"{e.share.chains:.0%}" if e.share else "–"
        beside = [f"{amount(o)} n={o['n']}" if o.get("delta") is not None else "–" for o in others]
        yield e, [label(e), *numbers, *beside, share, state_of(e)]


def markdown(a: Attribution) -> str:
    """The whole table, and what it says."""
    lines = [f"# What each principle of {a.version} does", "", *(f"- {line}" for line in sentences(a)), ""]
    for policy in POLICIES:
        lines += [f"## {POLICY[policy]}", "", table(a, policy), ""]
    return "\n".join(lines)


def table(a: Attribution, policy: str = POLICIES[0]) -> str:
    """The lines of one policy as a markdown table."""
    return tables.table(HEADS, (cells for _, cells in rows(a, policy)))


def short_table(a: Attribution) -> str:
    """Principle, change and verdict of the RL policy: short enough to show in Dagster without a click."""
    effects = [(e, effect_of(a, e)) for e in a.entries if e.kind == "without" and e.seed == 0]
    shown = [(e.principle, amount(x), verdict_on(x, a.telling)) if x and x["delta"] is not None else
             (e.principle, None, e.state) for e, x in effects]
    return tables.short_table(("principle left out", "attack success", "verdict"), shown, cell=40, rest="`effects`")


def by_suite(a: Attribution, policy: str = POLICIES[0]) -> pl.DataFrame:
    """Attack success suite by suite."""
    return with_tests(a.effects).filter(pl.col("suite") != ALL, policy=policy, measure=HEADLINE)


def _who(entry: Entry) -> str:
    if entry.kind == "again":
        return f"The whole version with another seed (seed +{entry.seed})"
    return f"Without {entry.principle}" if entry.kind == "without" else f"{entry.principle} alone, against none:"


def label(entry: Entry) -> str:
    """A derived version's name for people."""
    seed = f", seed +{entry.seed}" if entry.seed and entry.kind != "again" else ""
    kept = f" (kept for {' and '.join(entry.kept)}, as the only one)" if entry.kept else ""
    return f"{_who(entry).rstrip(':')}{seed}{kept}"


def state_of(entry: Entry) -> str:
    """How it stands, and what it lacks."""
    return f"{entry.state}: {entry.why}" if entry.why else entry.state


def _lacks(entry: Entry) -> str:
    return f"{state_of(entry)[:1].upper()}{state_of(entry)[1:]}."


def _noise(effect: dict[str, Any]) -> str:
    if effect["beyond_again"] is False and effect["verdict"] in SEEN:
        return ", but rebuilding the whole version moved it as far"
    return ""


