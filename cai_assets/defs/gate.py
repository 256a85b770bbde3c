"""The judge gate in Dagster: what the record of ``preference_pairs`` says about the labeler, and what enforces it.

The check and training apply the same test to the same record, so a run that skips checks is stopped too.
"""

from __future__ import annotations

from typing import Any

import dagster as dg

from cai_assets.evals.gate import GateResult, describe, verdict
from cai_assets.pipeline.project import Project
from cai_assets.reports.gate import benchmark_table, estimate_table, reliability_table
from cai_assets.store.records import Record

UNMEASURED = "the labels were generated without a judge gate: materialize preference_pairs again"


def judged(project: Project, labels: Record) -> tuple[bool, str, dict[str, Any]]:
    """(passed, why, numbers) by the thresholds set now, from the measurement made with the labels."""
    if "gate" not in labels.details:
        return False, UNMEASURED, {}
    result = GateResult.model_validate(labels.details["gate"])
    return *verdict(result, project.settings.gate, project.settings.evaluation.confidence), describe(result)


def refuse_unfit_labeller(project: Project, labels: Record) -> None:
    """Fail, with the gate's own reason, before anything is trained on labels that failed the gate."""
    passed, why, _ = judged(project, labels)
    if project.settings.gate.enforce and not passed:
        raise dg.Failure(f"{why}. Nothing is trained on these labels. Set models.labeller to a better labeler, or set "
                         "gate.enforce=false to train anyway.", allow_retries=False)


def gate_metadata(result: GateResult, project: Project) -> dict[str, Any]:
    """Verdict, table, reliability, and each number under its own name."""
    passed, why = verdict(result, project.settings.gate, project.settings.evaluation.confidence)
    return {"gate": why, "gate_passed": passed, "gate_table": dg.MetadataValue.md(estimate_table(result)),
            **({"gate_benchmarks": dg.MetadataValue.md(benchmark_table(result))} if result.benchmarks else {}),
            "gate_reliability": dg.MetadataValue.md(reliability_table(result)),
            **{f"gate_{name}": value for name, value in describe(result).items()}}
