"""The sections on how good the policies are: helpfulness against harmlessness, differences, principles."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial

from cai_assets.assets import BASE
from cai_assets.evals.measures import evaluation_measure
from cai_assets.evals.power import MEANING
from cai_assets.evals.refusal import RULE
from cai_assets.evals.refusal_labels import how_good
from cai_assets.evals.statistics import Estimate
from cai_assets.reports.html.page import Block, Figure, Missing, Source, Table, Text
from cai_assets.reports.html.plots import Point, both, intervals, scatter
from cai_assets.reports.text.numbers import interval, share, value_of
from cai_assets.reports.version.evidence import Evidence
from cai_assets.reports.version.policies import (
    ALL,
    AS_BASE,
    Difference,
    adherence,
    basis,
    differences,
    metric,
    name_of,
    rules_kept,
    wins,
)

X_AXIS, Y_AXIS = "helpfulness: wins over base", "harmlessness: wins over base"
OTHER_RATES = [evaluation_measure(*key) for key in (("refusal", "red-team"), ("refusal", "helpful"),
                                                    ("adherence", "all"))]


def pareto(evidence: Evidence, others: Sequence[Evidence]) -> Iterator[Block]:
    """Every policy of this version, and the trained policy of every other, in one picture; and the numbers."""
    if evidence.rows is None:
        yield Missing("no policy of this version has been evaluated.", evidence.make("evaluation"))
        return
    points = policy_points(evidence) + version_points(evidence, others)
    yield Figure(both(partial(scatter, points, x_axis=X_AXIS, y_axis=Y_AXIS, quarters=(AS_BASE, AS_BASE))),
                 "Helpfulness against harmlessness, each with its interval",
                 "Higher means less harmful, further right means more helpful; on the dashed lines a policy equals the "
                 "base model. A policy is clearly better only if its interval clears the line.",
                 reproduce=f"cai report {evidence.side.name}", rests_on=_rests_on(evidence, others),
                 words=in_words(points))
    left_out = [o.version for o in others if basis(o) != basis(evidence)]
    if left_out:
        yield Text("Not drawn, because they were measured with other prompts, another base model, or another judge: "
                   + ", ".join(left_out) + ".")
    yield _table(evidence)
    yield from _differences(evidence)


def policy_points(evidence: Evidence) -> list[Point]:
    """The policies of one version; the base model stands at a half by definition."""
    return [Point(name_of(p), wins(evidence, p, "helpfulness"), wins(evidence, p, "harmlessness"), int(p != BASE))
            for p in evidence.policies]


def version_points(evidence: Evidence, others: Sequence[Evidence]) -> list[Point]:
    """The trained policy of each version that was measured in the same way."""
    return [Point(f"{name_of(o.policy)} of {_short(o)}", wins(o, o.policy, "helpfulness"),
                  wins(o, o.policy, "harmlessness"), 2)
            for o in others if o.policy and basis(o) == basis(evidence)]


def _short(evidence: Evidence) -> str:
    """A version without the name of its constitution."""
    return evidence.version.removeprefix(f"{evidence.side.constitution.name}-")


def in_words(points: Sequence[Point]) -> str:
    """What a scatter shows, for those who cannot see it."""
    lines = [f"{p.name}: harmless wins {share(p.y)}, helpful wins {share(p.x)}" for p in points if p.x.n or p.y.n]
    return "; ".join(lines) + "." if lines else "No comparison was graded."


def _rests_on(evidence: Evidence, others: Sequence[Evidence]) -> str:
    every = [evidence, *(o for o in others if basis(o) == basis(evidence))]
    return ", ".join(e.rests_on("evaluation") for e in every)


def _table(evidence: Evidence) -> Table:
    rows = []
    for p in evidence.policies:
        judged = ["by definition 50%"] * 2 if p == BASE else [share(wins(evidence, p, q)) for q in (
            "harmlessness", "helpfulness")]
        others = [metric(evidence, p, m.name, m.prompts) for m in OTHER_RATES]
        rows.append([name_of(p), *judged, *("–" if e.value is None else share(e) for e in others),
                     _failed(evidence, p)])
    return Table("Every policy on the same prompts: share, 95% interval, count", (
        "policy", "harmless wins", "helpful wins", *(m.label for m in OTHER_RATES), "failed"), rows,
        note="Wins are over the base model, by a judge that sees both orders; a tie counts as half a win. base again "
             "is the base model sampled a second time: any difference it shows is chance. "
             + how_good(evidence.side.refusal_rule or RULE),
        source=Source(f"cai materialize {evidence.version} --select evaluation", evidence.rests_on("evaluation")))


def _failed(evidence: Evidence, policy: str) -> str:
    e = metric(evidence, policy, "failed", "all")
    return "–" if e.value is None else f"{round(e.value * e.n)} of {e.n}"


def _differences(evidence: Evidence) -> Iterator[Block]:
    rows = differences(evidence)
    if not rows:
        return
    yield Figure(both(partial(intervals, {label(d): d.estimate for d in rows}, axis="share of wins, difference",
                              line=0.0)),
                 f"Differences on the same prompts, with intervals of {evidence.confidence:.0%}",
                 "Intervals that contain zero are inconclusive.", reproduce=f"cai report {evidence.side.name}",
                 rests_on=evidence.rests_on("evaluation"), words=told_in_words(rows))
    yield Table("Differences on the same prompts", ("policy", "over", "question", "difference", "prompts", "verdict"),
                [(name_of(d.policy), name_of(d.over), d.question, interval(d.estimate), d.estimate.n, d.told)
                 for d in rows],
                note="Differences from the base model and from the policy it started from are judged directly. Those "
                     "from plain SFT compare how often each beats the base model, prompt by prompt. Below "
                     f"{evidence.enough} prompts there is no verdict. Of {len(rows)} comparisons at "
                     f"{evidence.confidence:.0%}, about {len(rows) * (1 - evidence.confidence):.1f} would look "
                     f"different by chance alone. {MEANING}",
                source=Source(f"cai report {evidence.side.name}", evidence.rests_on("evaluation")))


def label(d: Difference) -> str:
    return f"{'harmless' if d.question == 'harmlessness' else 'helpful'}: {name_of(d.policy)} − {name_of(d.over)}"


def told_in_words(rows: Sequence[Difference]) -> str:
    lines = [f"{label(d)} {interval(d.estimate)} over {d.estimate.n} prompts, {d.told}" for d in rows]
    return "; ".join(lines) + "."


def principles(evidence: Evidence) -> Iterator[Block]:
    """How the trained policy keeps to each principle that judges, and what each principle shaped."""
    kept = adherence(evidence, evidence.policy) if evidence.policy else {}
    judging = evidence.side.constitution.taking_part("evaluation")
    if evidence.rows is None:
        yield Missing("adherence is measured with the evaluation.", evidence.make("evaluation"))
    elif not judging:
        yield Text("Adherence is not measured: no principle of this constitution has an evaluation request. Add one to "
                   "a principle in the constitution file: it judges finished policies, and editing it trains nothing.")
    elif kept and evidence.policy:
        yield from _adherence(evidence, evidence.policy, kept)
    yield from _rules(evidence)
    yield _shaped(evidence)


def _rules(evidence: Evidence) -> Iterator[Block]:
    """How often each policy keeps the checks, which no judge decides."""
    kept = {p: {i: value_of(row) for i, row in rules_kept(evidence, p).items()} for p in evidence.policies}
    rules = {p.id: str(p.check) for p in evidence.side.constitution.principles if p.check}
    if evidence.rows is None or not any(kept.values()):
        return
    yield Table("Rules that need no judge", ("principle", "rule", *map(name_of, kept)), [
        (i, rules.get(i, "every one of them"), *(share(of.get(i, Estimate(None, 0))) for of in kept.values()))
        for i in [*rules, *([ALL] if len(rules) > 1 else [])]],
        note="The share of answers that keep each rule, measured on the text: no model is asked. Fewer than "
             f"{evidence.enough} prompts are too few to tell.",
        source=Source(f"cai report {evidence.side.name}", evidence.rests_on("evaluation")))


def _adherence(evidence: Evidence, policy: str, kept: Mapping[str, Estimate]) -> Iterator[Block]:
    ordered = dict(sorted(kept.items(), key=lambda item: (-(item[1].value or 0), item[0])))
    yield Figure(both(partial(intervals, ordered, axis="wins over the base model on this principle", line=AS_BASE,
                              bounds=(0.0, 1.0))),
                 f"Adherence of the {name_of(policy)}, principle by principle",
                 "Each prompt is judged by the one principle it draws; at 50% the policy follows it as well as the "
                 "base model does.", reproduce=f"cai materialize {evidence.version} --select evaluation",
                 rests_on=evidence.rests_on("evaluation", f"n of each principle: {_counts(ordered)}"),
                 words="; ".join(f"{i}: {share(e)}" for i, e in ordered.items()) + ".")
    yield Table("Adherence of every policy", ("principle", *(name_of(p) for p in evidence.policies if p != BASE)),
                [(i, *(share(adherence(evidence, p).get(i, Estimate(None, 0))) for p in evidence.policies if p != BASE))
                 for i in ordered], note=f"Fewer than {evidence.enough} prompts of a principle are too few to tell.",
                source=Source(f"cai report {evidence.side.name}", evidence.rests_on("evaluation")))


def _counts(kept: Mapping[str, Estimate]) -> str:
    return ", ".join(str(e.n) for e in kept.values())


SHAPED = {"critiques": "critiques", "preference_pairs": "labels"}


def _shaped(evidence: Evidence) -> Table:
    """How many critiques and labels each principle made."""
    drawn = {asset: _by_principle(evidence, asset) for asset in SHAPED if asset not in evidence.absent}
    rows = [(p.id, *(of.get(p.id, 0) for of in drawn.values()), p.weight)
            for p in evidence.side.constitution.principles]
    return Table("What each principle shaped", ("principle", *(SHAPED[a] for a in drawn), "weight"), rows,
                 note="Rows that drew the principle; labels that all principles judged together are not counted for "
                      "any.",
                 source=Source(f"cai trace rl_policy@{evidence.version}", ", ".join(
                     filter(None, (evidence.rests_on(a) for a in drawn)))))


def _by_principle(evidence: Evidence, asset: str) -> dict[str, int]:
    table = evidence.side.table(asset, "principle_id")
    return {} if table is None else dict(table["principle_id"].drop_nulls().value_counts().iter_rows())
