"""Documents and the policy trained on them in the graph: planned, traced, rewritten by principle, off for nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest
from histories import History, latest

from cai_assets.assets import OPTIONAL
from cai_assets.export.hub_dataset import export_dataset
from cai_assets.export.hub_model import export_model
from cai_assets.export.lineage import export_lineage
from cai_assets.export.subject import find_subject
from cai_assets.lineage.trace import row_chain, to_json, trace
from cai_assets.lineage.verify.checkpoints import checkpoint_problems
from cai_assets.pipeline.project import Project
from cai_assets.plan.plan import make_plan
from cai_assets.store.layout import Layout

KINDS = ("article", "memo")
SMALL = {"critique": {"rounds": 1}, "evaluation": {"suites": ["prefill"], "suite_cases": 1, "round_chains": 2}}


def test_a_version_with_documents_from_plan_to_trace_and_back_to_one_without(
    history: History, tmp_path_factory: pytest.TempPathFactory
) -> None:
    history.settings |= SMALL
    off: Any = history.project(history.root)
    version = off.snapshots.register(history.constitution)
    assert not {line.asset for line in make_plan(off, version).lines} & set(OPTIONAL)
    history.settings["documents"] = {"per_kind": 1, "kinds": list(KINDS)}
    project = history.project(history.root)
    principles = len(history.constitution.principles)
    plan = make_plan(project, version)
    line = plan.line("spec_documents")
    assert (line.generate_min, line.generate_max) == (len(KINDS) * principles,) * 2
    assert plan.line("mid_policy").trains
    assert "mid_policy is new" in plan.line("sl_policy").causes
    assert history.run(history.root) == (True, version)

    documents, mid, sl = (latest(history.root, a, version) for a in (*OPTIONAL, "sl_policy"))
    assert documents.generated == len(KINDS) * principles
    assert {ref.asset for ref in mid.inputs} == {"spec_documents"}
    assert mid.ref in sl.inputs
    project = history.project(history.root)
    trained = project.checkpoints.find("sl_policy", sl.digest)
    assert trained is not None
    assert trained.record["base_name"] == "mid_policy"
    assert trained.record["base"]["weights"] == mid.digest
    again = make_plan(project, version)
    assert not any(x.generate_max or x.trains for x in again.lines)
    assert {x.asset for x in again.lines} > set(OPTIONAL)

    _is_traced(project, version, history)
    _is_exported(project, version, tmp_path_factory.mktemp("exports"))
    _is_rewritten_by_principle(history)
    _is_off_again_for_nothing(history, version)


def _is_traced(project: Project, version: str, history: History) -> None:
    """From the SL policy to its documents, and from a document to its principle and the checkpoints."""
    kept = project.records.table(latest(history.root, "spec_documents", version)).filter(pl.col("left_out").is_null())
    traced = trace(project.layout, f"sl_policy@{version}").lineage
    stages = traced.influence.stages
    (own,) = [stage for name, stage in stages.items() if name.startswith("mid_policy")]
    assert own.rows == kept.height
    (row,) = kept.head(1).iter_rows(named=True)
    assert set(row_chain(project.layout, row["row_id"])["asset"]) == {"spec_documents"}
    wrote = {p.id for p in traced.influence.principles if p.rows}
    assert wrote >= set(kept["principle_id"])


def _is_exported(project: Project, version: str, folder: Path) -> None:
    """Both policies and the data; a folder traces to its documents where nothing else is."""
    for asset in ("mid_policy", "sl_policy"):
        subject = find_subject(project.layout, f"{asset}@{version}")
        export_model(subject, folder / asset)
        export_lineage(subject, folder / f"{asset}-lineage")
        assert checkpoint_problems(folder / asset) == []
        carried = trace(Layout(folder / "nothing"), str(folder / asset)).lineage
        assert to_json(carried) == to_json(subject.lineage)
        assert any(name.startswith("spec_documents") for name in carried.records)
    assert "trained on documents about the principles" in (folder / "mid_policy" / "README.md").read_text()
    assert export_dataset(project.layout, version, folder / "data", held_out=0.2).rows


def _is_rewritten_by_principle(history: History) -> None:
    """One edited principle: its documents alone, and what is trained on them."""
    before = history.constitution
    edited = before.principles[0]
    changed = edited.model_copy(update={"preference": "Which is shorter?"})
    history.constitution = before.model_copy(update={"principles": (changed, *before.principles[1:])})
    project = history.project(history.root)
    plan = make_plan(project, project.snapshots.register(history.constitution))
    line = plan.line("spec_documents")
    assert (line.reuse, line.generate_max) == (len(KINDS) * (len(before.principles) - 1), len(KINDS))
    assert plan.line("critiques").generate_max == 0
    assert plan.line("mid_policy").trains
    history.constitution = before


def _is_off_again_for_nothing(history: History, version: str) -> None:
    """Without documents the SL policy has the key that it would have if there had never been any."""
    history.settings["documents"] = {}
    plan = make_plan(history.project(history.root), version)
    assert not {line.asset for line in plan.lines} & set(OPTIONAL)
    assert plan.line("revisions").generate_max == 0
    assert plan.line("sl_policy").trains  # never trained from the model itself
