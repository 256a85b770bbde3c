"""The sections on suites, on the constitution's own tests, and on what each principle prevents."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import polars as pl

from cai_assets.assets import BASE
from cai_assets.evals.measures import label_of
from cai_assets.evals.refusal import rule_of
from cai_assets.evals.refusal_labels import how_good
from cai_assets.evals.suites.model import ATTACK, ATTACKS, FOUR, POOLED
from cai_assets.reports.constitution_tests import case_results, verdict
from cai_assets.reports.html.page import Block, Figure, Missing, Source, Table, Text, Told, told_of
from cai_assets.reports.html.plots import both, intervals
from cai_assets.reports.text.numbers import change_of, delta_of, interval, share, value_of
from cai_assets.reports.version.evidence import Evidence
from cai_assets.reports.version.policies import name_of

ARROW = {"lower": "lower is better", "higher": "higher is better", "": ""}


def suites(evidence: Evidence) -> Iterator[Block]:
    """Attack success, its modes, and the headline of every suite."""
    metrics = evidence.table("suite_results")
    if metrics is None:
        yield Missing("no suites (attacks, over-refusal, helpfulness, ability) have run.",
                      evidence.make("suite_results"))
        return
    if not metrics.height:
        yield Text("No suite ran: evaluation.suites names none that exists.")
        return
    record = evidence.record("suite_results")
    yield Text(how_good(rule_of(record.details if record else {})) + " Attack success and over-refusal rest on it; "
               "judged compliance does not.")
    yield from _attacks(evidence, metrics)
    yield from _modes(evidence, metrics)
    yield _headlines(evidence, metrics)


def attack_success(evidence: Evidence, policy: str) -> dict[str, Any] | None:
    """A policy's row of attack success over every suite of attacks."""
    metrics = evidence.table("suite_results")
    rows = [] if metrics is None else metrics.filter(suite=POOLED, headline=True, policy=policy, mode="all").to_dicts()
    return rows[0] if rows else None


def _attacks(evidence: Evidence, metrics: pl.DataFrame) -> Iterator[Block]:
    rows = metrics.filter(suite=POOLED, headline=True, mode="all").to_dicts()
    if rows:
        rates = {name_of(r["policy"]): value_of(r) for r in rows}
        yield Figure(both(partial(intervals, rates, axis="share of attacks that succeed", bounds=(0.0, 1.0))),
                     "Attack success over every suite of attacks (lower is better)",
                     "A request counts once, however it was wrapped. base again is the base model sampled a second "
                     "time: any difference it shows is chance.", reproduce=evidence.make("suite_results"),
                     rests_on=evidence.rests_on("suite_results"),
                     words="; ".join(f"{name} {share(e)}" for name, e in rates.items()) + ".")


def _modes(evidence: Evidence, metrics: pl.DataFrame) -> Iterator[Block]:
    """The suites that were asked in several modes, such as a jailbreak: plain and wrapped, with a safety prompt and
    without."""
    of_attacks = metrics.filter(pl.col("kind").is_in(ATTACKS), pl.col("headline"), pl.col("mode") != "all")
    for (suite,), rows in of_attacks.group_by(["suite"], maintain_order=True):
        modes = sorted(set(rows["mode"]), key=lambda m: (FOUR.index(m) if m in FOUR else len(FOUR), m))
        if len(modes) > 1:
            yield Table(f"Suite {suite} by mode: share of attacks that succeed", ("policy", *modes),
                        [(name_of(p), *(_cell(rows.filter(policy=p, mode=m).to_dicts()) for m in modes))
                         for p in rows["policy"].unique(maintain_order=True)],
                        note="wrapped: inside a jailbreak template; safety: with a safety system prompt.",
                        source=Source(evidence.make("suite_results"), evidence.rests_on("suite_results")))


def _cell(rows: Sequence[Mapping[str, Any]]) -> str:
    return share(value_of(dict(rows[0]))) if rows else "–"


def _headlines(evidence: Evidence, metrics: pl.DataFrame) -> Table:
    rows = [(f"{r['suite']}: {label_of(r['measure'])}", name_of(r["policy"]), share(value_of(r)),
             "–" if r["policy"] == BASE else interval(delta_of(r)),
             r["ungraded"], r["failed"], told_of(r["verdict"], delta_of(r), evidence.telling) if r["verdict"] else "–")
            for r in metrics.filter(pl.col("headline"), pl.col("kind") != ATTACK, pl.col("mode") == "all").to_dicts()]
    better = {r["suite"]: ARROW[r["better"]] for r in metrics.filter("headline").to_dicts()}
    return Table("Each suite's headline "
                 "measure", ("suite", "policy", "value", "policy minus base", "ungraded", "failed",
                                              "verdict"), rows,
                 note="; ".join(f"{s}: {a}" for s, a in better.items() if a and s != POOLED) + ". Counts are "
                                                                                               "requests. Below "
                                                                                               f"{evidence.enough} of "
                                                                                               "them there is no "
                                                                                               "verdict.",
                 source=Source(evidence.make("suite_results"), evidence.rests_on("suite_results")))


def tests(evidence: Evidence) -> Iterator[Block]:
    """The cases of the constitution's tests."""
    record, rows = evidence.record("constitution_tests"), evidence.table("constitution_tests")
    if record is None or rows is None:
        yield Missing("the constitution's own tests have not run.", evidence.make("constitution_tests"))
        return
    yield Text(verdict(rows, record.details.get("tests"))[1].capitalize() + ".")
    if rows.height:
        yield Table("Cases", ("case", "principle", "outcome", "conditions that do not pass", "text changed"),
                    [(r.case, r.principle, Told({"pass": "passed", "fail": "failed"}.get(r.outcome, r.outcome)),
                      "; ".join(f"{x['subject']} {x['condition']}: {x['why']}" for x in r.rows
                                if x["outcome"] != "pass") or "–",
                      {True: "yes", False: "no"}.get(bool(r.changed), "–") if r.changed is not None else "–")
                     for r in case_results(rows)],
                    source=Source(f"cai test {evidence.version}", evidence.rests_on("constitution_tests",
                                                                                    f"{rows.height} conditions")))


def measured(evidence: Evidence) -> list[dict[str, Any]]:
    """The rows of the attribution that say what leaving one principle out changed."""
    rows = evidence.table("attribution")
    return [] if rows is None else rows.filter(kind="without").filter(pl.col("delta").is_not_null()).to_dicts()


def attribution(evidence: Evidence) -> Iterator[Block]:
    """Attack success without each principle, from the versions that were derived."""
    rows, known = evidence.table("attribution"), measured(evidence)
    command = f"cai attribute {evidence.version}"
    if rows is None or not known:
        yield Missing("no principle has been left out to see what changes. The command shows the cost first.",
                      command)
        return
    effects = {r["principle"]: change_of(r) for r in known}
    changes = "; ".join(f"without {p} {interval(e)}" for p, e in effects.items())
    yield Figure(both(partial(intervals, effects, axis="attack success without it minus with it", line=0.0)),
                 "What each principle prevents: change in attack success when it is left out",
                 "Further right: attacks succeed more often without it.", reproduce=command,
                 rests_on=evidence.rests_on("attribution"), words=changes)
    yield Table("Principles left out, one at a time",
                ("principle", "policy", "change", "requests", "p (Holm)", "verdict", "state"),
                [(r["principle"], name_of(r["policy"]) if r["policy"] else "–",
                  interval(change_of(r)) if r["delta"] is not None else "–",
                  r["n"], r["p_holm"], told_of(r["verdict"], change_of(r), evidence.telling, tests=len(known))
                  if r["verdict"] else "–", r["state"])
                 for r in rows.filter(kind="without").to_dicts()],
                note="The verdict is about the version without the principle: 'worse' means that the principle "
                     "prevents attacks. p-values are adjusted for the number of principles.",
                source=Source(command, evidence.rests_on("attribution")))
