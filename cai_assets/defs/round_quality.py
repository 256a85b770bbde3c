"""Quality per critique-revision round: which round still gains, and what it costs in helpfulness."""

from typing import Any

import dagster as dg

from cai_assets.defs.declared import asset
from cai_assets.defs.records import beside, store_table
from cai_assets.defs.run import Run
from cai_assets.evals.judge import QUESTIONS
from cai_assets.evals.refusal import RULE
from cai_assets.evals.rounds import Rounds, measured, stops_paying
from cai_assets.evals.statistics import Telling
from cai_assets.pipeline import evaluation
from cai_assets.reports.rounds import chart, markdown, stop_sentence


@asset("round_quality", code_version=f"1.{RULE}")
def round_quality(run: Run) -> dg.MaterializeResult[None]:
    """Each round's revisions against the initial responses and against the round before, judged in both orders.

    At most ``evaluation.round_chains`` chains, drawn by a hash. Reports the first round without evidence of a gain.
    """
    wanted = run.settings.evaluation
    rounds = measured(evaluation.round_quality(run), enough=wanted.enough, confidence=wanted.confidence)
    tables = {name: beside(run, f"round_{name}", frame)
              for name, frame in (("rows", rounds.rows), ("texts", rounds.texts))}
    return store_table(run, "round_quality", rounds.metrics, metadata=round_metadata(rounds, Telling.by(wanted)),
                       details={**tables, "chains": rounds.chains, "of": rounds.of, "refusal_rule": RULE})


def round_metadata(rounds: Rounds, telling: Telling) -> dict[str, Any]:
    """The curve, where it stops paying in words, the table, and the numbers that plot over versions."""
    stops = {q: stops_paying(rounds.metrics, q) for q in QUESTIONS}
    numbers: dict[str, Any] = {f"{q}_rounds_that_gain": s.paying for q, s in stops.items() if s.rounds}
    last = rounds.metrics.filter(kind="win rate", against="initial").sort("round").group_by("measure").last()
    numbers |= {f"{r['measure']}_last_over_initial": r["value"] for r in last.to_dicts() if r["value"] is not None}
    return {"curve": dg.MetadataValue.md(chart(rounds.metrics)),
            "stops_paying": dg.MetadataValue.md("\n\n".join(stop_sentence(s, telling) for s in stops.values())),
            "rounds": dg.MetadataValue.md(markdown(rounds.metrics, telling)), "chains": rounds.chains,
            "chains_there_are": rounds.of, **numbers}


assets = [round_quality]
