"""A comparison in words: the sentences that answer a reader first, and short tables.

Guarantees: no claim without its count; a difference is called one only where ``evals/statistics.told`` calls it one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import polars as pl

from cai_assets.assets import LABELS
from cai_assets.evals.measures import evaluation_measure
from cai_assets.evals.metrics import CHECK
from cai_assets.evals.power import detectable_events, with_detectable
from cai_assets.evals.statistics import FEW, Telling
from cai_assets.pipeline.absent import absent
from cai_assets.reports.compare.gather import Comparison
from cai_assets.reports.compare.labels import Labels
from cai_assets.reports.compare.metrics import SAME, label_of
from cai_assets.reports.compare.rewards import Rewards
from cai_assets.reports.text.numbers import amount, change_of, interval, share
from cai_assets.reports.text.tables import short_table

POLICIES = ("rl_policy", "sl_policy")
NAMES = {"rl_policy": "RL policy", "sl_policy": "SL policy", "sft_baseline": "SFT baseline", "base": "base model",
         "base_again": "base again"}


def sentences(c: Comparison) -> list[str]:
    """What changed, whether it is better, and how sure that is."""
    return [f"From {c.before.name} to {c.after.name}: {changed(c)}.", *_better(c), *_beyond(c), *_revisions(c),
            *_labels(c), *_rewards(c), *c.notes]


def changed(c: Comparison) -> str:
    """The change of the constitution, in counts."""
    kinds = Counter(x.kind for x in c.principles.changes)
    if not kinds and not c.principles.shots:
        return "the constitutions say the same" + (" but for names and comments" if c.principles.cosmetic else "")
    parts = [f"{n} principle{'s' if n > 1 else ''} {kind}" for kind, n in kinds.items()]
    parts += [f"other {s.label}" for s in c.principles.shots]
    return ", ".join([*parts, f"{c.principles.unchanged} unchanged"])


def headlines(metrics: pl.DataFrame | None) -> list[dict[str, Any]]:
    """The judged metrics of the last policy that every version evaluated, and whether it keeps every rule."""
    if metrics is None:
        return []
    for policy in POLICIES:
        rows = metrics.filter(policy=policy).to_dicts()
        chosen = [r for r in rows if _is_headline(r)]
        if chosen:
            return chosen
    return []


def _is_headline(row: dict[str, Any]) -> bool:
    judged = evaluation_measure(row["metric"], row["prompts"]).over == "even"
    return judged or (row["metric"] == CHECK and row["prompts"] == "all")


def say(row: dict[str, Any], telling: Telling) -> str:
    """One difference: 'harmless wins 0.50 → 0.60, +0.10 [-0.02, +0.22] over 40 prompts: no difference seen
    (detectable: 0.17)'."""
    label = label_of(row)
    if row["delta"] is None:
        return f"{label}: no prompt was graded in both"
    return (f"{label} {row['before']:.2f} → {row['after']:.2f}, {interval(change_of(row))} over {row['n']} prompts: "
            f"{said(row, telling)}")


def said(row: dict[str, Any], telling: Telling) -> str:
    """The verdict on a difference between versions, with what it could have found."""
    return with_detectable(row["verdict"], change_of(row), telling)


def markdown(c: Comparison) -> str:
    """Headline and refusal differences of both trained policies as a table, short enough to show in Dagster."""
    if c.metrics is None:
        return "_Not both versions have been evaluated._"
    rows = [r for p in POLICIES for r in c.metrics.filter(policy=p).to_dicts()
            if _is_headline(r) or r["metric"] == "refusal"]
    return short_table(("policy", "metric", "change", "n", "verdict"), [
        (NAMES[r["policy"]], label_of(r), interval(change_of(r)), r["n"], said(r, c.telling)) for r in rows],
        rest="the page")


def numbers(c: Comparison) -> dict[str, float | int]:
    """Figures that plot over materializations, under stable names."""
    out: dict[str, float | int] = {}
    if c.revisions:
        out |= {"revisions_compared": c.revisions.paired, "revisions_changed": c.revisions.count("changed")}
    if c.labels:
        out["labels_compared"] = c.labels.shared
        out |= {} if c.labels.flips.value is None else {"label_flip_rate": c.labels.flips.value}
    for r in c.metrics.to_dicts() if c.metrics is not None else ():
        if r["policy"] in POLICIES and r["delta"] is not None and evaluation_measure(r["metric"], r["prompts"]).rate:
            out[f"delta_{r['policy']}_{r['metric']}_{r['prompts']}".replace("-", "_")] = r["delta"]
    return out


def _better(c: Comparison) -> Iterator[str]:
    rows = headlines(c.metrics)
    if not rows:
        yield "Whether it is better cannot be said: not both versions have an evaluation of a trained policy."
        return
    policy = NAMES[rows[0]["policy"]]
    yield overall(rows, policy, c.telling.enough)
    yield f"{policy}: {'; '.join(say(r, c.telling) for r in rows)}."


def _beyond(c: Comparison) -> Iterator[str]:
    if c.control is None:
        return
    rows, name = headlines(c.control.metrics), c.control.side.name
    if not rows:
        yield (f"Beyond the control {name} nothing can be said: not all three versions have an evaluation of a trained "
               "policy.")
    else:
        yield f"Beyond the control {name}: {overall(rows, NAMES[rows[0]['policy']], c.telling.enough)}"
        yield f"Beyond the control, {'; '.join(say_beyond(r, c.telling) for r in rows)}."
    yield from c.control.notes


def say_beyond(row: dict[str, Any], telling: Telling) -> str:
    """One difference of differences: 'harmless wins: +0.20 less +0.05 of the control = +0.15 [...] over 40 prompts'."""
    if row["delta"] is None:
        return f"{label_of(row)}: no prompt was graded in all three"
    return (f"{label_of(row)}: {row['effect']:+.2f} less {row['control']:+.2f} of the control, "
            f"{interval(change_of(row))} over {row['n']} prompts: {said(row, telling)}")


def overall(rows: Sequence[dict[str, Any]], policy: str, enough: int) -> str:
    """Whether a policy is better, from its ``headlines``: in one respect and not in another, where it is so."""
    verdicts = Counter(r["verdict"] for r in rows)
    if verdicts["better"] and verdicts["worse"]:
        better, worse = (", ".join(label_of(r) for r in rows if r["verdict"] == v) for v in ("better", "worse"))
        return f"The {policy} is better in some respects ({better}) and worse in others ({worse})."
    if verdicts["better"] or verdicts["worse"]:
        return f"The {policy} is {'better' if verdicts['better'] else 'worse'} where there is evidence of a difference."
    if verdicts[SAME] == len(rows):
        return f"The {policy} gave the same responses."
    if verdicts[FEW] + verdicts[SAME] == len(rows):
        return f"Whether the {policy} is better is not known: fewer than {enough} prompts were graded in both."
    return f"No evidence of a difference in the {policy}."


def _revisions(c: Comparison) -> Iterator[str]:
    revisions = c.revisions
    if all("revisions" in absent(s.constitution) for s in (c.before, c.after)):
        return
    if revisions is None:
        yield "Revisions are not compared: at least one version has none."
        return
    causes = [f"{n} by {what}" for what, n in zip(
        ("a principle whose text was edited", "another principle", "the same principle, with a different text before "
                                                                   "it"),
        revisions.causes().values(), strict=True) if n]
    alone = revisions.count("only before") + revisions.count("only after")
    yield (f"Of {revisions.paired} revisions of the same prompt and round, {revisions.count('changed')} read "
           "differently" + (f" ({', '.join(causes)})" if causes else "")
           + (f"; only one version has {alone} more" if alone else "") + ".")


def _labels(c: Comparison) -> Iterator[str]:
    if all(LABELS in absent(s.constitution) for s in (c.before, c.after)):
        return
    if c.labels is None:
        yield "Labels are not compared: at least one version has none."
    else:
        yield label_sentence(c, c.labels)
    if c.relabeled:
        yield relabeled_sentence(c, c.relabeled)


def relabeled_sentence(c: Comparison, labels: Labels) -> str:
    """Flips of the first version's pairs under the second's constitution."""
    return (f"The same pairs of {c.before.name} by the constitution of {c.after.name}: {labels.shared} were graded by "
            f"both; of those decided by both, {share(labels.flips)} flipped. The probability moved by "
            f"{amount(labels.shift)} on average, one value per prompt.{_few(labels, c.telling.enough)}")


def _few(labels: Labels, enough: int) -> str:
    if labels.flips.n >= enough:
        return ""
    return (f" Fewer than {enough} decided pairs: {FEW} (a share of {detectable_events(enough):.0%} would show itself "
            f"in {enough}).")


def label_sentence(c: Comparison, labels: Labels) -> str:
    """Flips, or why there is nothing to compare."""
    if not labels.shared:
        policies = [s.digest("sl_policy") for s in (c.before, c.after)]
        why = "the SL policies differ" if policies[0] != policies[1] else "the responses differ"
        return (f"Labels: no pair in common: {why}, so their responses were never the same texts. Both orders agree on "
                f"{share(labels.before.consistent)} labels before and {share(labels.after.consistent)} after.")
    return (f"Labels: {labels.shared} pairs with the same texts were graded in both versions; of those decided in "
            f"both, {share(labels.flips)} flipped. The probability moved by {amount(labels.shift)} on average, "
            f"one value per prompt.{_few(labels, c.telling.enough)}")


def _rewards(c: Comparison) -> Iterator[str]:
    if c.rewards:
        yield reward_sentence(c.rewards, c.telling.enough)


def reward_sentence(rewards: Rewards, enough: int) -> str:
    """Agreement, or why there is none."""
    accuracy = f"own held-out accuracy {share(rewards.before)} before and {share(rewards.after)} after"
    if rewards.why_none:
        return f"Reward models: {rewards.why_none}; {accuracy}."
    shows = f"{detectable_events(enough):.0%} of other choices would show in {enough}"
    few = f" ({FEW}: {shows})" if rewards.agreement.n < enough else ""
    return f"Reward models make the same choice on {share(rewards.agreement)} common held-out pairs{few}; {accuracy}."
