"""A program of another environment trains the RL policy of the graph; the other trainings are copies of their base."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import stand_in
from histories import History, copy_instead_of_training

from cai_assets.defs import launch
from cai_assets.lineage.verify import verify
from cai_assets.store.layout import Layout
from cai_assets.train.job import Job

pytest.importorskip("transformers")
REAL = launch._run


@pytest.mark.long
def test_its_policy_is_checked_published_evaluated_reused_and_trained_again_by_another_version_of_it(
    history: History, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    from safetensors.torch import load_file

    def train(context: Any, asset: str, job: Job) -> None:
        (REAL if asset == "rl_policy" else copy_instead_of_training)(context, asset, job)

    monkeypatch.setattr(launch, "_run", train)

    def run(how: str, number: str) -> tuple[bool, dict[str, Any]]:
        history.settings["rl"] = {"algorithm": "external", "external": {
            "command": [sys.executable, stand_in.__file__, how], "version": number}}
        success, version = history.run(tmp_path / "data")
        records = history.project(tmp_path / "data").records
        return success, {a: records.latest(a, version) for a in ("sl_policy", "rl_policy", "evaluation") if success}

    success, _ = run("other shape", "1")
    assert not success
    assert "what rl.external.command left is not published: 1 tensors have another shape" in capfd.readouterr().out
    assert not [*(tmp_path / "data" / "checkpoints" / "rl_policy").glob("*/record.json")]
    success, first = run("keeps", "1")
    assert success
    before, after = (load_file(tmp_path / "data" / first[a].path / "model.safetensors")
                     for a in ("sl_policy", "rl_policy"))
    assert all(float((after[name] - before[name]).min()) > 0.005 for name in before)
    assert first["rl_policy"].details["metrics"]["kl_max"] == 0.1
    assert first["evaluation"].rows
    again, other = run("keeps", "1")[1], run("keeps", "2")[1]
    assert again["rl_policy"].details["reused_checkpoint"]
    assert all(again[name].digest == first[name].digest for name in first)
    assert other["rl_policy"].digest != first["rl_policy"].digest
    assert not verify(Layout(tmp_path / "data"))
