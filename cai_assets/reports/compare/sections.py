"""The sections of the comparison page, each from its part of the comparison.

Guarantees: every figure has its count; what was not made, or is inconclusive, is said in words.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import polars as pl

from cai_assets.constitution.diff import Change, ShotChange
from cai_assets.evals.measures import evaluation_measure
from cai_assets.evals.power import MEANING
from cai_assets.evals.statistics import FEW, NOT_SEEN, Telling
from cai_assets.reports.compare.control import Control
from cai_assets.reports.compare.gather import SPENT, Comparison
from cai_assets.reports.compare.labels import Labels, Rates
from cai_assets.reports.compare.making import NAMES as MADE
from cai_assets.reports.compare.metrics import OTHER_RULE, label_of
from cai_assets.reports.compare.metrics import SAME as SAME_RESPONSES
from cai_assets.reports.compare.revisions import ANOTHER, EDITED, SAME, Revisions
from cai_assets.reports.compare.words import (
    NAMES,
    POLICIES,
    label_sentence,
    relabeled_sentence,
    reward_sentence,
)
from cai_assets.reports.escape import shorten
from cai_assets.reports.html.page import Beside, Block, Diff, Figure, Table, Text, told_of
from cai_assets.reports.html.plots import both, intervals
from cai_assets.reports.text.numbers import amount, change_of, interval, share

EXCERPT = 240
SHOWN_CHARACTERS = 1500
NO_TEXT = "(no text)"


def principles(c: Comparison) -> Iterator[Block]:
    """Word diffs of every request that changed."""
    if c.principles.empty:
        yield Text("The constitutions are the same.")
    changes: list[Change | ShotChange] = [*c.principles.shots, *c.principles.changes]
    for change in changes:
        for text in change.texts:
            yield Diff(f"{change.label}: {text.field}", text.before or "", text.after or "")
        if not change.texts:
            yield Text(f"{change.label}.")
    if c.principles.cosmetic:
        yield Table("Differences that affect no rows", ("of", "field", "before", "after"),
                    [(x.principle or "constitution", x.field, x.before, x.after) for x in c.principles.cosmetic])


def answers(c: Comparison) -> Iterator[Block]:
    """Both answers to a few prompts, the worst first."""
    if c.answers is None:
        yield Text("At least one version has not been evaluated.")
        return
    name = _name(c.answers.policy)
    given = f"{c.answers.both} answers of the {name} to the same held-out prompts"
    if not c.answers.differ:
        yield Text(f"All {given} are the same.")
        return
    yield Text(f"Of {given}, {c.answers.differ} are in other words. First those that the judge, which is itself a "
               "model, finds worse now against the base model, then those that differ most.")
    for p in c.answers.pairs:
        yield Beside(shorten(" ".join(p.prompt.split()) or p.prompt_id, EXCERPT), p.before, p.after, note=(
            f"{p.prompt_id}, {p.category}. Against the base model: {p.before_verdict or 'not judged'} before, "
            f"{p.after_verdict or 'not judged'} after. {p.share:.0%} of words differ."))


def metrics(c: Comparison) -> Iterator[Block]:
    """Differences of every policy: a plot for the trained ones, and the table."""
    if c.metrics is None:
        yield Text("At least one version has not been evaluated.")
        return
    same = [p for p, rows in _by_policy(c.metrics) if all(r["same_response"] == r["n"] for r in rows)]
    compared = [(p, rows) for p, rows in _by_policy(c.metrics) if p not in same]
    count, (confidence, enough) = sum(len(rows) for _, rows in compared), c.telling
    if same:
        yield Text(f"Every response was the same, so there is nothing to compare: {', '.join(map(_name, same))}.")
    if not compared:
        return
    yield Text("Change from before to after, paired by prompt. Intervals that contain zero are inconclusive; below "
               f"{enough} prompts there is no verdict. Of {count} comparisons at {confidence:.0%}, about "
               f"{count * (1 - confidence):.1f} would look different by chance alone. Wins are over the base model, by "
               "a judge that is itself a model. Relevance weights words by all texts in its own evaluation, so even "
               "identical responses move slightly.")
    for policy, rows in compared:
        rates = [r for r in rows if evaluation_measure(r["metric"], r["prompts"]).rate]
        drawn = {label_of(r): change_of(r) for r in rates}
        yield Figure(both(partial(intervals, drawn, axis="after minus before", line=0.0)),
                     f"{_name(policy)}: change of each rate, with {confidence:.0%} intervals", _told(rates))
        yield _metric_table(policy, rows, c.telling)


def control(c: Comparison, control: Control) -> Iterator[Block]:
    """What the change does beyond the control: a table for each policy."""
    if control.metrics is None:
        yield Text("At least one of the three versions has not been evaluated.")
        return
    count, confidence = control.metrics.height, c.telling.confidence
    yield Text(f"The control {control.side.name} asks for nothing in particular, but was made like {c.after.name}. Per "
               f"prompt: what changed from {c.before.name} to {c.after.name}, less what changed from {c.before.name} "
               f"to the control. An interval that contains zero shows no effect beyond that of any constitution. Of "
               f"{count} comparisons at {confidence:.0%}, about {count * (1 - confidence):.1f} would look different by "
               "chance alone. Each version is one training: intervals cover the choice of prompts.")
    for policy, rows in _by_policy(control.metrics):
        yield Table(f"{_name(policy)}: beyond the control",
                    ("metric", "beyond [interval]", "verdict", "n", "change", "of the control", "not in all",
                     "ungraded"),
                    [(label_of(r), interval(change_of(r)), told_of(r["verdict"], change_of(r), c.telling), r["n"],
                      r["effect"], r["control"],
                      r["not_in_all"], r["ungraded"]) for r in rows])


def _by_policy(metrics: pl.DataFrame) -> list[tuple[str, list[dict[str, Any]]]]:
    """The policies that matter most first."""
    names = [*POLICIES, *(p for p in metrics["policy"].unique(maintain_order=True) if p not in POLICIES)]
    return [(p, rows) for p in names if (rows := metrics.filter(policy=p).to_dicts())]


def _name(policy: str) -> str:
    return NAMES.get(policy, policy)


def _metric_table(policy: str, rows: Sequence[dict[str, Any]], telling: Telling) -> Table:
    shown = [(label_of(r), interval(change_of(r)), told_of(r["verdict"], change_of(r), telling), r["n"],
              r["before"], r["after"], r["only_before"] + r["only_after"], r["ungraded"]) for r in rows]
    return Table(f"{_name(policy)}: every metric",
                 ("metric", "change [interval]", "verdict", "n", "before", "after", "not in both", "ungraded"), shown,
                 note="not in both: prompts that only one version evaluated. ungraded: failed, or not graded in one of "
                      "them; for adherence also prompts that another request judged. " + MEANING)


def _told(rows: Sequence[dict[str, Any]]) -> str:
    differences = [f"{label_of(r)} {r['verdict']} ({interval(change_of(r))}, n = {r['n']})"
                   for r in rows if r["verdict"] not in {FEW, NOT_SEEN, SAME_RESPONSES, OTHER_RULE}]
    if not differences:
        return "No evidence of a difference in any of them."
    return f"Evidence of a difference: {'; '.join(differences)}."


def labels(c: Comparison) -> Iterator[Block]:
    """Rates of both versions; flips on common pairs."""
    if c.relabeled:
        yield Text(relabeled_sentence(c, c.relabeled))
        yield from _flips(c.relabeled)
    labels = c.labels
    if labels is None:
        yield Text("At least one version has no labels.")
        return
    yield Text(label_sentence(c, labels))
    yield Table("How each version was labeled", ("figure", "before", "after"), list(zip(
        ("pairs", "ungraded", "both orders agree", "ties", "mean strength"),
        _rates(labels.before), _rates(labels.after), strict=True)))
    if labels.shared:
        yield from _flips(labels)


def _rates(r: Rates) -> tuple[object, ...]:
    return r.pairs, r.ungraded, share(r.consistent), share(r.ties), amount(r.strength)


def _flips(labels: Labels) -> Iterator[Block]:
    yield Table("Where labels went, on pairs in both", ("before", "after", "pairs"), labels.moves.rows(),
                note="1 and 2 are the two responses, in the order of their texts, whatever their letters.")
    yield _table("Flips by the principle that judges now", labels.by_principle)
    for r in labels.examples.to_dicts():
        now = r["principle_id_after"] or "all principles"
        then = "" if r["principle_id"] == r["principle_id_after"] else f" (before: by {r['principle_id']})"
        yield Diff(f"{r['prompt_id']}, by {now}{then}", r["first"][:SHOWN_CHARACTERS],
                   r["second"][:SHOWN_CHARACTERS],
                   note=f"probability of the struck response: {r['p']:.2f} before, {r['p_after']:.2f} after")


def revisions(revisions: Revisions | None) -> Iterator[Block]:
    """Counts, by principle, and texts: most changed first, then a sample."""
    if revisions is None:
        yield Text("At least one version has no revisions.")
        return
    counts = [("the same text", revisions.count("same")), ("different text", revisions.count("changed")),
              *[(f"of these, {name}", n) for name, n in revisions.causes().items()],
              ("no longer present", revisions.count("lost")), ("newly present", revisions.count("new")),
              ("missing in both", revisions.count("none")),
              ("only in the first version", revisions.count("only before")),
              ("only in the second version", revisions.count("only after"))]
    yield Table("Revisions of the same prompt and round", ("what", "revisions"),
                [*counts[:2], *(row for row in counts[2:] if row[1])],
                note=f"{EDITED}: its request was rewritten. {ANOTHER}: the prompt and round now draw a different one. "
                     f"{SAME}: an earlier round of the chain or a setting changed.")
    yield _table("By the principle drawn now", revisions.by_principle)
    sampled = revisions.measured != revisions.count("changed")
    limited = f" Measured on a sample of {revisions.measured} by hash." if sampled else ""
    if revisions.worst.height:
        yield Text("Most changed first, by the share of words found in only one of the two texts." + limited)
    yield from _texts(revisions.worst)
    if revisions.sample.height:
        yield Text("A sample of the others, by a hash of prompt and round.")
    yield from _texts(revisions.sample)


def _texts(rows: pl.DataFrame) -> Iterator[Block]:
    for r in rows.to_dicts():
        then = "" if r["principle_before"] == r["principle_after"] else f" (before: by {r['principle_before']})"
        words = "" if r["share"] is None else f", {r['share']:.0%} of words changed"
        prompt = (r["prompt"] or "")[-EXCERPT:]
        yield Diff(f"{r['prompt_id']}, round {r['round']}, by {r['principle_after']}{then}", r["before"] or NO_TEXT,
                   r["after"] or NO_TEXT, note=f"{r['cause'].capitalize()}{words}. Prompt: {prompt}")


def rewards(c: Comparison) -> Iterator[Block]:
    """Agreement, or why there is none."""
    yield Text(reward_sentence(c.rewards, c.telling.enough) if c.rewards else "At least one version has no reward "
                                                                              "model.")


def cost(c: Comparison) -> Iterator[Block]:
    """What it cost to make both, over all their runs."""
    yield Table("What each version cost to make", ("figure", "before", "after"),
                list(zip(MADE, *c.made, strict=True)),
                note="Over all runs of each version. Work that one version had done is reused by the next, so the one "
                     "that came first paid for both; what no version owns, such as the baseline, is counted for "
                     "neither.")


def cost_by_asset(c: Comparison) -> Iterator[Block]:
    """What the records compared cost: in sum, and for each asset that called a model or trained."""
    totals = [(name.replace("_", " "), *(sum(c.cost.filter(side=s)[name].to_list()) for s in ("before", "after")))
              for name in SPENT]
    yield Table("Spent on the records compared", ("figure", "before", "after"), totals,
                note="The newest run of each asset alone, which may have reused all of it.")
    busy = (pl.sum_horizontal("reused", "generated", "failed") > 0) | (pl.col("made") != "table")
    yield _table("By asset", c.cost.filter(busy.any().over("asset")))


def reproduce(c: Comparison) -> Iterator[Block]:
    """The commands that rebuild this page, and those that show more."""
    more = f" --control {c.control.side.name}" if c.control else ""
    yield Text(f"cai compare {c.before.name} {c.after.name}{more}", code=True)
    ids = [r.ref.id for s in (c.before, c.after) if (r := s.records.get("evaluation"))]
    if len(ids) == 2 and ids != [c.before.name, c.after.name]:
        yield Text("By default this compares the newest records. To compare these exact records later:")
        yield Text(f"cai compare {' '.join(ids)}{more}", code=True)
    yield Text(f"cai diff {c.before.version} {c.after.version}\ncai trace rl_policy@{c.after.version}", code=True)


def _table(caption: str, frame: pl.DataFrame) -> Table:
    return Table(caption, [name.replace("_", " ") for name in frame.columns], frame.rows())
