"""The report page of a version: one HTML file, and its figures as numbers that plot over versions."""

from typing import Any

import dagster as dg

from cai_assets.defs.attribution import attribution
from cai_assets.defs.automation import on_real_change
from cai_assets.defs.constitution_tests import constitution_tests
from cai_assets.defs.evaluation import evaluation
from cai_assets.defs.inputs import OWNERS
from cai_assets.defs.making import Making
from cai_assets.defs.partitions import versions
from cai_assets.defs.round_quality import round_quality
from cai_assets.defs.suites import suite_results
from cai_assets.pipeline.project import Project
from cai_assets.reports.version.evidence import Evidence, beside, evidence
from cai_assets.reports.version.figures import figures, headline, numbers
from cai_assets.reports.version.page import save


@dg.asset(group_name="evaluation", kinds={"polars"}, owners=OWNERS, code_version="1", partitions_def=versions,
          deps=[evaluation, suite_results, round_quality, constitution_tests, attribution],
          automation_condition=on_real_change())
def report(context: dg.AssetExecutionContext, project: dg.ResourceParam[Project]) -> dg.MaterializeResult[None]:
    """One page that says whether the version is better, at what price, and how each figure is made again.

    One row a headline figure. Reads records and calls no model; `cai report VERSION` writes the same page.
    """
    made = Making(context, project, partition=context.partition_key)
    settings = project.settings
    found = evidence(project.layout, context.partition_key, settings.monitors, settings.price_per_gpu_hour)
    for record in found.side.records.values():
        made.using(record)
    page = save(found, beside(found))
    return made.table("report", figures(found), settings={"monitors": settings.monitors},
                      details={"page": project.layout.relative(page)},
                      metadata={"page": dg.MetadataValue.path(str(page)), **report_metadata(found)})


def report_metadata(found: Evidence) -> dict[str, Any]:
    """The answers in a word each, and every headline figure as a number."""
    return {"headline": dg.MetadataValue.md(headline(found)), **numbers(figures(found))}


assets = [report]
