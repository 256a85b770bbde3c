"""RLAIF alone on the real model: real samples, labels, reward model and RL, from the model itself or from documents."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from histories import START
from model_fixtures import prepared_model
from test_half_graph import stripped

from cai_assets.assets import OPTIONAL, needed
from cai_assets.constitution.model import Constitution, Principle
from cai_assets.defs.execute import materialize
from cai_assets.defs.outcome import failures
from cai_assets.lineage.trace import trace
from cai_assets.pipeline.absent import absent
from cai_assets.pipeline.project import Project
from cai_assets.store.parquet import read_parquet
from cai_assets.store.records import RecordMissing
from cai_assets.versions.snapshots import VERSIONS

pytestmark = [pytest.mark.model, pytest.mark.long]


QUICK: dict[str, Any] = {"max_length": 160, "batch_size": 2}


def settings_of(folder: Path, **more: Any) -> dict[str, Any]:
    return {
        "data_root": str(folder / "data"), "models": {"generator": {"source": str(prepared_model().path), "backend":
                                                                    "transformers"}},
        "prompts": {"red_team": 4, "helpful": 1, "eval_red_team": 1, "eval_helpful": 1},
        "generation": {"max_tokens": 8}, "gate": {"pairs": 4, "enforce": False}, "reward": QUICK,
        "rl": {**QUICK, "steps": 1, "max_tokens": 8}, **more}


def run(c: Constitution, settings: dict[str, Any], *, without: Sequence[str] = ()) -> tuple[Project, str]:
    """All that the RL policy needs, and then that alone."""
    project = Project.open(settings)
    version = project.snapshots.register(c)
    gone = {*absent(c, project.settings, version), *without}
    above = [name for name in (*OPTIONAL, *needed("rl_policy")) if name not in gone and name != "rl_policy"]
    with dg.DagsterInstance.ephemeral() as instance:
        instance.add_dynamic_partitions(VERSIONS, [version])
        for selection in (above, ["rl_policy"]):
            result = materialize(instance, version, selection=selection, overrides=settings)
            assert result.success, list(failures(result))
    return project, version


def test_select_rl_policy_works_without_a_supervised_half(tmp_path: Path) -> None:
    project, version = run(stripped(START, "preference"), settings_of(tmp_path))
    record = project.records.latest("rl_policy", version)
    found = project.checkpoints.whole("rl_policy", record.digest)
    assert found is not None
    assert found.record["base"]["weights"] == prepared_model().identity.weights
    pairs = project.records.table(project.records.latest("response_pairs", version))
    assert pairs["response_a"].n_unique() > 1
    labels = project.records.table(project.records.latest("preference_pairs", version))
    assert labels["p_a"].drop_nulls().is_between(0, 1).all()
    with pytest.raises(RecordMissing):
        project.records.latest("sl_policy", version)
    assert not trace(project.layout, f"rl_policy@{version}").lineage.problems


def test_rl_alone_starts_from_the_policy_that_read_documents_and_is_rewarded_by_tier(tmp_path: Path) -> None:
    c = Constitution(name="two", version="v1", principles=(
        Principle(id="kind", preference="Which answer is kinder?", rubric="Is the answer kind?"),
        Principle(id="short", preference="Which answer is shorter?", rubric="Is the answer short?", priority=2)))
    settings = settings_of(tmp_path, documents={"per_kind": 1, "kinds": ["memo"], "max_tokens": 24}, mid=QUICK,
                           rl={**QUICK, "steps": 1, "max_tokens": 8, "reward": "rubric"})
    project, version = run(c, settings, without=["reward_model"])
    documents, mid, rl = (project.records.latest(a, version) for a in ("spec_documents", "mid_policy", "rl_policy"))
    assert project.records.table(documents)["left_out"].null_count() > 0
    read, learned = (project.checkpoints.whole(r.asset, r.digest) for r in (mid, rl))
    assert read
    assert learned
    assert read.record["base"]["weights"] == prepared_model().identity.weights
    assert learned.record["base"]["weights"] == mid.digest
    assert [part["tier"]["number"] for part in learned.record["rewards"]] == [1, 2]
    rollouts = read_parquet(project.layout.absolute(rl.details["rollouts"]))
    assert rollouts["reward"].is_between(0, 1).all()
    influence = trace(project.layout, f"rl_policy@{version}").lineage
    assert not influence.problems
    assert {"spec_documents", "mid_policy"} <= {r.asset for r in influence.records.values()}
