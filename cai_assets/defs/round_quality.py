"""Quality per critique-revision round: which round still gains, and what it costs in helpfulness."""

from typing import Any

import dagster as dg

from cai_assets.defs.declared import declared
from cai_assets.defs.making import Making
from cai_assets.evals.judge import QUESTIONS
from cai_assets.evals.rounds import Rounds, stops_paying
from cai_assets.pipeline import evaluation
from cai_assets.pipeline.project import Project
from cai_assets.reports.rounds import chart, markdown, stop_sentence


@dg.asset(**declared("round_quality"))
def round_quality(context: dg.AssetExecutionContext, project: dg.ResourceParam[Project]) -> dg.MaterializeResult[None]:
    """Each round's revisions against the initial responses and against the round before, judged in both orders.

    At most ``evaluation.round_chains`` chains, drawn by a hash. Says from which round on another round gains nothing
    that can be told.
    """
    made = Making(context, project, partition=context.partition_key)
    settings = project.settings
    found = evaluation.round_quality(
        settings, made.read("starting_responses"), made.read("revisions"),
        complete=made.completer(project.engines.open(settings.models.role("judge"))))
    tables = {name: project.layout.relative(project.records.save_table(f"round_{name}", frame)[1])
              for name, frame in (("rows", found.rows), ("texts", found.texts))}
    return made.table("round_quality", found.metrics, metadata=round_metadata(found),
                      details={**tables, "chains": found.chains, "of": found.of})


def round_metadata(found: Rounds) -> dict[str, Any]:
    """The curve, where it stops paying in words, the table, and the numbers that plot over versions."""
    stops = {q: stops_paying(found.metrics, q) for q in QUESTIONS}
    numbers: dict[str, Any] = {f"{q}_rounds_that_gain": s.paying for q, s in stops.items() if s.rounds}
    last = found.metrics.filter(kind="win rate", against="initial").sort("round").group_by("measure").last()
    numbers |= {f"{r['measure']}_last_over_initial": r["value"] for r in last.to_dicts() if r["value"] is not None}
    return {"curve": dg.MetadataValue.md(chart(found.metrics)),
            "stops_paying": dg.MetadataValue.md("\n\n".join(stop_sentence(s) for s in stops.values())),
            "rounds": dg.MetadataValue.md(markdown(found.metrics)), "chains": found.chains,
            "chains_there_are": found.of, **numbers}


assets = [round_quality]
