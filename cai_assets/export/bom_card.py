"""Parts of CycloneDX 1.6 that its Python library has no classes for: ``modelCard`` and ``data``, as JSON values."""

from __future__ import annotations

import json
from typing import Any

from cai_assets.assets import CHECKPOINTS, about
from cai_assets.export.subject import Subject
from cai_assets.export.tables import setting_rows
from cai_assets.reports.cards import LIMITS
from cai_assets.store.folders import read
from cai_assets.store.records import Record

REINFORCED = "rl_policy"


def model_card(subject: Subject) -> dict[str, Any]:
    """The ``modelCard`` of the checkpoint: parameters, data, metrics with intervals, limits."""
    data = [{"ref": name} for name, r in sorted(subject.lineage.records.items())
            if name != subject.lineage.root and r.asset not in CHECKPOINTS]
    task = "text-classification" if subject.asset == "reward_model" else "text-generation"
    out = "score" if subject.asset == "reward_model" else "text"
    return {
        "modelParameters": {
            "approach": {"type": "reinforcement-learning" if subject.asset == REINFORCED else "supervised"},
            "task": task, **_architecture(subject), "datasets": data,
            "inputs": [{"format": "text"}], "outputs": [{"format": out}]},
        "quantitativeAnalysis": {"performanceMetrics": [_metric(m) for m in subject.metrics().iter_rows(named=True)]},
        "considerations": {"technicalLimitations": [LIMITS]},
        "properties": [{"name": f"cai:setting:{k}", "value": v} for k, v in setting_rows(subject.about["settings"])],
    }


def data_of(record: Record) -> dict[str, Any]:
    """The ``data`` of a data set component."""
    facts = {"digest": record.digest, "record": record.ref.id, **(
        {} if record.rows is None else {"rows": str(record.rows)})}
    kind = "definition" if record.asset == "constitution" else "dataset"
    return {"type": kind, "name": record.asset, "description": about(record.asset), "contents": {
        "properties": [{"name": f"cai:{k}", "value": v} for k, v in facts.items()]}}


def _architecture(subject: Subject) -> dict[str, str]:
    config = json.loads(read(subject.folder, "config.json") or b"{}")
    names = {"architectureFamily": config.get("model_type"), "modelArchitecture": next(iter(
        config.get("architectures") or []), None)}
    return {k: str(v) for k, v in names.items() if v}


def _metric(row: dict[str, Any]) -> dict[str, Any]:
    interval = {} if row["low"] is None else {"confidenceInterval": {
        "lowerBound": f"{row['low']:.6g}", "upperBound": f"{row['high']:.6g}"}}
    return {"type": row["metric"], "value": f"{row['value']:.6g}", "slice": f"{row['prompts']} (n = {row['n']})",
            **interval}
