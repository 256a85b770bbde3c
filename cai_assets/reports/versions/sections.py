"""The sections of the page across versions, each from every version's evidence, oldest first.

Guarantees: versions are drawn together only where the same prompts, base model and judge measured them; a version that
lacks a figure leaves a gap and is never drawn as zero.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

from cai_assets.assets import OWN
from cai_assets.constitution.diff import diff
from cai_assets.evals.judge import QUESTIONS
from cai_assets.evals.power import with_detectable
from cai_assets.evals.refusal import rule_of
from cai_assets.evals.rounds import stops_paying
from cai_assets.evals.statistics import FEW, Estimate
from cai_assets.pipeline.spending import served_tokens
from cai_assets.reports.compare.sides import is_training, materializations
from cai_assets.reports.html.page import Block, Figure, Missing, Source, Table, Text, Told
from cai_assets.reports.html.plots import Point, bars, both, lines, scatter
from cai_assets.reports.ranking import NotComparable, beside
from cai_assets.reports.ranking import ranking as rank
from cai_assets.reports.text.numbers import share, value_of
from cai_assets.reports.version.costs import SUMS
from cai_assets.reports.version.evidence import Evidence, spent
from cai_assets.reports.version.labels import gate_of
from cai_assets.reports.version.policies import AS_BASE, basis, metric, name_of, wins
from cai_assets.reports.version.quality import X_AXIS, Y_AXIS, in_words
from cai_assets.reports.version.suites import attack_success

COMMAND = "cai report --all"
UNKNOWN = Estimate(None, 0)
NUMBERS = "Versions are numbered in order of registration; the first table lists them."


def pareto(every: Sequence[Evidence]) -> Iterator[Block]:
    """The trained policies of every version, one picture for each way of measuring."""
    if not every:
        yield Missing("no version has been evaluated yet.", "cai materialize CONSTITUTION")
        return
    groups: dict[str, list[Evidence]] = {}
    for evidence in every:
        groups.setdefault(basis(evidence), []).append(evidence)
    for number, group in enumerate(groups.values(), start=1):
        points = [Point(f"{name_of(p)} of {e.version}", wins(e, p, "helpfulness"), wins(e, p, "harmlessness"), i)
                  for e in group for i, p in enumerate(OWN) if p in e.policies]
        of = f", group {number} of {len(groups)}" if len(groups) > 1 else ""
        yield Figure(both(partial(scatter, points, x_axis=X_AXIS, y_axis=Y_AXIS, quarters=(AS_BASE, AS_BASE))),
                     f"Helpfulness against harmlessness over versions{of}", "Higher means less harmful, further right "
                                                                            "means more helpful; on the dashed lines a "
                                                                            "policy equals the base "
                                                                            "model.", reproduce=COMMAND,
                     rests_on=", ".join(e.rests_on("evaluation") for e in group), words=in_words(points))
    if len(groups) > 1:
        yield Text("Versions measured with other prompts, another base model, or another judge are in separate "
                   "pictures: their numbers cannot be compared.")


def over_versions(every: Sequence[Evidence]) -> Iterator[Block]:
    """Wins, attacks and refusals of the trained policy, version by version."""
    if not every:
        return
    yield Table("Versions", ("number", "version", "principles", "evaluated", "labels agree with people", "rounds that "
                             "gain in harmlessness"),
                [(i, e.version, len(e.side.constitution.principles), name_of(e.policy) if e.policy else "–", _gate(e),
                  _rounds(e)) for i, e in enumerate(every, start=1)], source=Source(COMMAND, _rests_on(every)))
    yield _lines(every, {q: [_wins(e, q) for e in every] for q in ("harmlessness", "helpfulness")},
                 "Wins over the base model, version by version", "wins over base", AS_BASE)
    older = {asset: _by_older_rule(every, asset) for asset in ("suite_results", "evaluation")}
    rates = {"attacks succeed": [UNKNOWN if e.version in older["suite_results"] else _attacks(e) for e in every],
             **{f"refuses {p}": [UNKNOWN if e.version in older["evaluation"] else _refusal(e, p) for e in every]
                for p in ("red-team", "helpful")}}
    yield _lines(every, rates, "Attacks and refusals of the trained policy, version by version", "share", None)
    yield Table("The same numbers as a table", ("version", "harmless wins", "helpful wins", *rates),
                [(e.version, *(share(_wins(e, q)) for q in ("harmlessness", "helpfulness")),
                  *(share(values[i]) for values in rates.values())) for i, e in enumerate(every)],
                source=Source(COMMAND, _rests_on(every)))
    for asset, names in older.items():
        if names:
            yield Text(f"Refusals in {asset} of {', '.join(names)} were found by an older rule and are left out, with "
                       f"the attacks that rest on them. Materialize {asset} again; responses are reused.")


def _by_older_rule(every: Sequence[Evidence], asset: str) -> list[str]:
    """Versions whose refusals another rule found than the newest one among them."""
    rules = {e.version: rule_of(r.details) for e in every if (r := e.record(asset))}
    return [version for version, rule in rules.items() if rule < max(rules.values())]


def _lines(every: Sequence[Evidence], series: dict[str, list[Estimate]], caption: str, axis: str,
           line: float | None) -> Figure:
    words = "; ".join(f"{name}: " + ", ".join(f"{i} {share(e)}" for i, e in enumerate(values, start=1) if e.n)
                      for name, values in series.items())
    return Figure(both(partial(lines, series, x_axis="version", y_axis=axis, first=1, bounds=(0.0, 1.0), line=line)),
                  caption, NUMBERS, reproduce=COMMAND, rests_on=_rests_on(every), words=f"{words}.")


def ranking(every: Sequence[Evidence]) -> Iterator[Block]:
    """The policies of all versions on one scale, for both questions."""
    for question in QUESTIONS if every else ():
        telling = every[-1].telling
        try:
            ranked = rank(every[0].layout, [e.side.name for e in every], question, **telling._asdict())
        except NotComparable as e:
            yield Text(f"No ranking by {question}: {e}.")
            continue
        yield Table(f"Ranked by {question}: win rate over the base model implied by each strength",
                    ("policy", "wins", "comparisons", "prompts", "verdict"),
                    [(_ranked(s.policy), share(s.wins) if not s.why else s.why, s.comparisons, s.strength.n,
                      Told(s.verdict, beside(s, telling)) if s.verdict else "–") for s in ranked.standings],
                    note="The model of Bradley and Terry (1952): each policy has one strength, and a tie is half a win "
                         "for each side.",
                    source=Source(f"cai rank {' '.join(e.version for e in every)}",
                                  f"{ranked.comparisons} comparisons on {ranked.prompts} prompts, {_rests_on(every)}"))


def principles(every: Sequence[Evidence]) -> Iterator[Block]:
    """How many principles each version has, and what changed since the one before of the same constitution."""
    rows, before = [], dict[str, Evidence]()
    for e in every:
        c = e.side.constitution
        earlier = before.get(c.name)
        changes = [x.kind for x in diff(earlier.side.constitution, c).changes] if earlier else []
        counts = ", ".join(f"{changes.count(kind)} {kind}" for kind in dict.fromkeys(changes))
        uses = [sum(bool(getattr(p, use)) for p in c.principles) for use in ("critique", "preference", "evaluation")]
        rows.append((e.version, len(c.principles), *uses, counts or ("none" if earlier else "the first")))
        before[c.name] = e
    if rows:
        yield Table("Principles of each version", ("version", "principles", "criticize", "label", "judge",
                                                   "changed since the previous version"), rows,
                    note="cai diff OLD NEW shows the texts; cai compare OLD NEW shows their effect.",
                    source=Source(COMMAND, f"{len(rows)} snapshots"))


def cost(every: Sequence[Evidence]) -> Iterator[Block]:
    """All materializations of each version."""
    records = {e.version: materializations(e.side) for e in every}
    sums = {v: spent(rs, SUMS) | {"served_tokens": sum(map(served_tokens, rs)), "training_runs": sum(
        map(is_training, rs))} for v, rs in records.items()}
    if not sums:
        return
    yield Figure(both(partial(bars, {v: round(s["seconds"], 1) for v, s in sums.items()}, unit="s")),
                 "Seconds over all runs, by version", "An edited version reuses whatever the edit did not affect.",
                 reproduce=COMMAND, rests_on=f"{len(sums)} versions",
                 words="; ".join(f"{v} {s['seconds']:,.0f} s" for v, s in sums.items()) + ".")
    columns = ("reused", "generated", "failed", "completion_tokens", "served_tokens", "training_runs", "seconds",
               "gpu_seconds")
    yield Table("What each version cost", ("version", *(c.replace("_", " ") for c in columns)),
                [(v, *(s[c] for c in columns)) for v, s in sums.items()],
                note="All runs so far of its partitioned assets; prompts, initial responses, and the SFT baseline "
                     "belong to every version and are excluded.", source=Source(COMMAND, f"{len(sums)} versions"))


def _wins(evidence: Evidence, question: str) -> Estimate:
    wanted = next(q for q in QUESTIONS if q == question)
    return wins(evidence, evidence.policy, wanted) if evidence.policy else UNKNOWN


def _refusal(evidence: Evidence, prompts: str) -> Estimate:
    return metric(evidence, evidence.policy, "refusal", prompts) if evidence.policy else UNKNOWN


def _attacks(evidence: Evidence) -> Estimate:
    row = attack_success(evidence, evidence.policy) if evidence.policy else None
    return value_of(row) if row else UNKNOWN


def _ranked(policy: str) -> str:
    """A policy of the ranking by its name for people, with its version where it has one."""
    name, at, version = policy.partition("@")
    return f"{name_of(name)} of {version}" if at else name_of(name)


def _gate(evidence: Evidence) -> str:
    gate = gate_of(evidence)
    return share(gate.accuracy_debiased) if gate else "–"


def _rounds(evidence: Evidence) -> str:
    metrics = evidence.table("round_quality")
    if metrics is None:
        return "–"
    stop = stops_paying(metrics, "harmlessness")
    if stop.verdict == FEW:
        return with_detectable(FEW, stop.gain or Estimate(None, 0), evidence.telling)
    return f"{stop.paying} of {stop.rounds}"


def _rests_on(every: Sequence[Evidence]) -> str:
    return ", ".join(e.rests_on("evaluation") for e in every)
