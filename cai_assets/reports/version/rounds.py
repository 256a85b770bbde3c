"""The section on critique-revision rounds: what each round gains, and where it stops paying."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import polars as pl

from cai_assets.evals.judge import QUESTIONS
from cai_assets.evals.rounds import TEXT_MEASURES, gain_of, over_half, stops_paying
from cai_assets.evals.statistics import Estimate, clustered_mean, told
from cai_assets.reports.html.page import Block, Figure, Missing, Source, Table, Text, told_of
from cai_assets.reports.html.plots import both, lines
from cai_assets.reports.rounds import stop_sentence, wins
from cai_assets.reports.text.numbers import amount, interval, share, value_of
from cai_assets.reports.version.evidence import Evidence

HALF = 0.5


def rounds(evidence: Evidence) -> Iterator[Block]:
    """The curve over rounds, where it ends, the numbers, the texts, and the principles that criticized."""
    metrics = evidence.table("round_quality")
    if metrics is None:
        yield Missing("the rounds of critique and revision have not been judged one by one.",
                      evidence.make("round_quality"))
        return
    record = evidence.record("round_quality")
    chains = f"{record.details['chains']} of {record.details['of']} chains" if record else ""
    for question in QUESTIONS:
        yield Text(stop_sentence(stops_paying(metrics, question), evidence.telling))
    yield _curve(evidence, metrics, chains)
    yield _wins(evidence, metrics, chains)
    yield _texts(evidence, metrics, chains)
    yield from _principles(evidence)


def _curve(evidence: Evidence, metrics: pl.DataFrame, chains: str) -> Figure:
    series: dict[str, list[Estimate]] = {q: [Estimate(HALF, 0)] for q in QUESTIONS}
    for r in wins(metrics, "initial"):
        series[r["measure"]].append(value_of(r))
    wins_by_round = [f"{q} after round {i}: {share(e)}" for q, of in series.items() for i, e in enumerate(of) if i]
    return Figure(both(partial(lines, series, x_axis="round", y_axis="wins over initial", line=HALF,
                               bounds=(0.0, 1.0))),
                  "Revisions against the initial response, round by round", "At 50% the revision equals the initial "
                                                                            "response; round 0 is that response "
                                                                            "itself. The bands are the intervals.",
                  reproduce=evidence.make("round_quality"), rests_on=evidence.rests_on("round_quality", chains),
                  words="; ".join(wins_by_round) + ".")


def _wins(evidence: Evidence, metrics: pl.DataFrame, chains: str) -> Table:
    rows = [(r["round"], r["measure"], r["against"], share(value_of(r)), r["ungraded"], r["missing"], r["identical"],
             told_of(r["verdict"], gain_of(r), evidence.telling))
            for against in ("previous", "initial") for r in wins(metrics, against)]
    return Table("Wins of each round", ("round", "question", "against", "wins", "ungraded", "missing", "same text",
                                        "verdict"), rows,
                 note="Rounds are tested against the previous round in order, and testing stops at the first one with "
                      "no evidence of a gain. Identical texts are a tie and are not sent to the judge.",
                 source=Source(evidence.make("round_quality"), evidence.rests_on("round_quality", chains)))


def _texts(evidence: Evidence, metrics: pl.DataFrame, chains: str) -> Table:
    rows = []
    for measure in TEXT_MEASURES:
        for level in metrics.filter(measure=measure, kind="level").sort("round").to_dicts():
            change = metrics.filter(measure=measure, kind="change", against="previous", round=level["round"]).to_dicts()
            rows.append((measure, level["round"], (share if measure == "refusal" else amount)(value_of(level)),
                         interval(value_of(change[0])) if change else "–"))
    return Table("Texts of each round", ("measure", "round", "value", "change from the previous round"), rows,
                 note="Lexical measures: they need no judge and say nothing about quality. echo is the share of the "
                      "text that repeats the prompt.",
                 source=Source(evidence.make("round_quality"), evidence.rests_on("round_quality", chains)))


def _principles(evidence: Evidence) -> Iterator[Block]:
    """Which principle's critiques gained: each round's win over the round before, by the principle that it drew."""
    rows = evidence.side.detail("round_quality", "rows")
    if rows is None:
        return
    shown = [line for question in QUESTIONS for line in _gains(evidence, rows.filter(
        pl.col("against") == "previous", pl.col("question") == question, pl.col("outcome").is_not_null()), question)]
    if shown:
        yield Table("Gain over the previous round, by the principle that criticized",
                    ("principle", "question", "gain", "chains", "verdict"), shown,
                    note="A chain that drew a principle in several rounds counts once, with its mean. Principles are "
                         "drawn at random, so a difference between them is due to the principles, not the prompts.",
                    source=Source(evidence.make("round_quality"), evidence.rests_on("round_quality")))


def _gains(evidence: Evidence, rows: pl.DataFrame, question: str) -> Iterator[tuple[Any, ...]]:
    for (principle,), mine in sorted(rows.group_by(["principle_id"]), key=lambda part: str(part[0])):
        e = over_half(clustered_mean(mine["outcome"].to_list(), mine["prompt_id"].to_list(), evidence.confidence))
        verdict = told(e, enough=evidence.enough, better="higher")
        yield principle, question, interval(e), e.n, told_of(verdict, e, evidence.telling)

