"""The check of a constitution's tests."""

from __future__ import annotations

from cai_assets.defs.checks.common import Verdict, check, nothing_failed
from cai_assets.pipeline.project import Project
from cai_assets.reports.constitution_tests import numbers, verdict
from cai_assets.store.records import Record


def cases_pass(project: Project, record: Record, _: str | None) -> Verdict:
    rows = project.records.table(record)
    passed, why = verdict(rows, record.details["tests"])
    return passed, why, dict(numbers(rows))


checks = [
    check("constitution_tests", "cases_pass", cases_pass,
          description="Every case of the constitution's tests passes; warns if there are no tests"),
    check("constitution_tests", "nothing_failed", nothing_failed, description="Every model call succeeded"),
]
