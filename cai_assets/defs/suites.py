"""Suites: every policy on cases that ask for harm, sound like it, ask for help, or try to jailbreak a model."""

from dataclasses import asdict
from typing import Any

import dagster as dg
import polars as pl

from cai_assets.assets import PLAIN
from cai_assets.defs.automation import on_real_change
from cai_assets.defs.declared import asset
from cai_assets.defs.metadata import text_preview
from cai_assets.defs.records import beside, file_of, store_table
from cai_assets.defs.run import Run
from cai_assets.engines.models import ModelError
from cai_assets.evals.refusal import RULE
from cai_assets.evals.refusal_labels import how_good
from cai_assets.evals.statistics import Telling
from cai_assets.evals.suites.draw import Counts
from cai_assets.evals.suites.registry import SuitesError
from cai_assets.pipeline import evaluation as stages
from cai_assets.reports.suites import headline_table, metric_table, numbers
from cai_assets.reports.text.tables import table
from cai_assets.steps.reasons import reason_line


# As for evaluation, a new baseline alone triggers no run.
@asset("suite_results", code_version=f"1.{RULE}",
                     when=on_real_change(ignoring=dg.AssetSelection.assets(PLAIN)))
def suite_results(run: Run) -> dg.MaterializeResult[None]:
    """Attack success, over-refusal, help and ability of base, trained and other policies on the same cases.

    Suites are those of the package and of `evaluation.suites_folder`. Each measure has its interval by request, and its
    difference from the base model, paired by case; `base_again` shows what sampling alone does.
    """
    try:
        done = stages.suite_results(run)
    except (SuitesError, ModelError) as e:
        raise dg.Failure(str(e), allow_retries=False) from None
    cases = done.cases
    for suite in cases.suites:
        reasons = [reject.reason for reject in suite.rejects]
        run.tell(reason_line(len(reasons), len(suite.cases) + len(reasons), f"rows of {suite.name} unusable", reasons))
    metrics, rows = stages.suite_tables(run.settings, done)
    path = beside(run, "suite_rows", rows)
    counts = {name: {**asdict(c), "digest": s.digest} for s in cases.suites for name, c in cases.drawn.counts.items()
              if name == s.name}
    return store_table(run, "suite_results", metrics, details={
        "rows": path, "suites": counts, "refusal_rule": RULE}, metadata={
        **suite_metadata(metrics, cases.drawn.counts, Telling.by(run.settings.evaluation)),
        "rows_file": file_of(run, path), "refusals": how_good(),
        **text_preview(rows, {"policy": "policy", "prompt": "prompt", "response": "response"})})


def suite_metadata(metrics: pl.DataFrame, counts: dict[str, Counts], telling: Telling) -> dict[str, Any]:
    """The headline, all metrics, what became of the cases, and each headline number under its own name."""
    cases = table(("suite", "cases", "asked", "near a training prompt", "unusable rows"), [
        (name, c.cases, c.asked, c.in_training, c.rejected) for name, c in counts.items()])
    tables = {"headline": headline_table(metrics), "metrics": metric_table(metrics, telling), "cases": cases}
    return {**{name: dg.MetadataValue.md(text) for name, text in tables.items()},
            "cases_near_training": sum(c.in_training for c in counts.values()), **numbers(metrics)}


assets = [suite_results]
