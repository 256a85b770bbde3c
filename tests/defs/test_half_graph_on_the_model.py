"""RLAIF alone on the real model: real samples, labels, reward model and RL, from the model itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from histories import START
from model_fixtures import prepared_model
from test_half_graph import stripped

from cai_assets.assets import needed
from cai_assets.defs.execute import materialize
from cai_assets.defs.outcome import failures
from cai_assets.lineage.trace import trace
from cai_assets.pipeline.absent import absent
from cai_assets.pipeline.project import Project
from cai_assets.store.records import RecordMissing
from cai_assets.versions.snapshots import VERSIONS

pytestmark = [pytest.mark.model, pytest.mark.long]


def test_select_rl_policy_works_without_a_supervised_half(tmp_path: Path) -> None:
    model, quick = prepared_model(), {"max_length": 160, "batch_size": 2}
    settings: dict[str, Any] = {
        "data_root": str(tmp_path / "data"), "models": {"generator": {"source": str(model.path), "backend":
                                                                      "transformers"}},
        "prompts": {"red_team": 4, "helpful": 1, "eval_red_team": 1, "eval_helpful": 1},
        "generation": {"max_tokens": 8}, "gate": {"pairs": 4, "enforce": False}, "reward": quick,
        "rl": {**quick, "steps": 1, "max_tokens": 8}}
    project = Project.open(settings)
    c = stripped(START, "preference")
    version = project.snapshots.register(c)
    above = [name for name in needed("rl_policy") if name not in absent(c) and name != "rl_policy"]
    with dg.DagsterInstance.ephemeral() as instance:
        instance.add_dynamic_partitions(VERSIONS, [version])
        for selection in (above, ["rl_policy"]):
            result = materialize(instance, version, selection=selection, overrides=settings)
            assert result.success, failures(result)
    record = project.records.latest("rl_policy", version)
    found = project.checkpoints.whole("rl_policy", record.digest)
    assert found is not None
    assert found.record["base"]["weights"] == model.identity.weights
    pairs = project.records.table(project.records.latest("response_pairs", version))
    assert pairs["response_a"].n_unique() > 1
    labels = project.records.table(project.records.latest("preference_pairs", version))
    assert labels["p_a"].drop_nulls().is_between(0, 1).all()
    with pytest.raises(RecordMissing):
        project.records.latest("sl_policy", version)
    assert not trace(project.layout, f"rl_policy@{version}").lineage.problems
