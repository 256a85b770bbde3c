"""The report page of a version: one HTML file, and its figures as numbers that plot over versions."""

from typing import Any

import dagster as dg

from cai_assets.defs.declared import asset
from cai_assets.defs.records import store_table
from cai_assets.defs.run import Run
from cai_assets.reports.version.evidence import Evidence, beside, evidence_of
from cai_assets.reports.version.figures import figures, headline, numbers
from cai_assets.reports.version.page import save


@asset("report")
def report(run: Run) -> dg.MaterializeResult[None]:
    """One page that says whether the version is better, at what price, and how each figure is made again.

    One row a headline figure. Reads records and calls no model; `cai report VERSION` writes the same page.
    """
    settings = run.settings
    evidence = evidence_of(run.project.layout, run.partition, settings.monitors, settings.price_per_gpu_hour)
    for record in evidence.side.records.values():
        run.using(record)
    page = save(evidence, beside(evidence))
    return store_table(run, "report", figures(evidence), details={"page": run.project.layout.relative(page)},
                       metadata={"page": dg.MetadataValue.path(str(page)), **report_metadata(evidence)})


def report_metadata(evidence: Evidence) -> dict[str, Any]:
    """The answers in a word each, and every headline figure as a number."""
    return {"headline": dg.MetadataValue.md(headline(evidence)), **numbers(figures(evidence))}


assets = [report]
