"""``cai sweep alpha`` through the real graph: scripted engines, a tiny model that is really trained."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tiny_models import tiny_model
from typer.testing import CliRunner

from cai_assets.cli import app
from cai_assets.store.layout import Layout
from cai_assets.store.records import Records

CONSTITUTION = 'version: "v1"\nprinciples:\n  - id: harm\n    critique: Find harm.\n    revision: Remove harm.\n' \
               "    preference: Which is less harmful?\n"  # fmt: skip
SETTINGS = {
    "GENERATION": {"max_tokens": 16}, "PROMPTS": {"red_team": 10, "helpful": 3, "eval_red_team": 4, "eval_helpful": 3},
    "SL": {"max_length": 64}, "REWARD": {"max_length": 64}, "RL": {"max_length": 64, "steps": 2, "max_tokens": 8},
}  # fmt: skip


@pytest.mark.model
@pytest.mark.long
def test_each_alpha_is_trained_once_and_a_second_sweep_reuses_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "constitutions").mkdir()
    (tmp_path / "constitutions" / "mild.yaml").write_text(CONSTITUTION)
    for name, value in {
        **SETTINGS, "MODELS": {"generator": {"source": str(tiny_model(tmp_path / "tiny")), "backend": "scripted"}},
    }.items():  # fmt: skip
        for key, item in value.items():
            monkeypatch.setenv(f"CAI_{name}__{key.upper()}", json.dumps(item))
    monkeypatch.setenv("CAI_DATA_ROOT", str(tmp_path / "data"))
    monkeypatch.setenv("CAI_CONSTITUTIONS", str(tmp_path / "constitutions"))
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "home"))
    first = CliRunner().invoke(app, ["sweep", "alpha", "mild", "--values", "0.5,5"])
    assert first.exit_code == 0, first.output
    (path,) = (tmp_path / "data" / "reports").glob("sweep-alpha-*.json")
    rows = json.loads(path.read_text())
    assert [row["alpha"] for row in rows] == [0.5, 5.0]
    assert len({row["checkpoint"] for row in rows}) == 2
    assert all(row["sl_loss_last"] and row["kl_max"] is not None and row["held_out_n"] >= 1 for row in rows)
    assert all(row["harmlessness_win_rate"]["n"] + row["harmlessness_win_rate"]["ungraded"] > 0 for row in rows)
    trained = sorted((tmp_path / "data" / "checkpoints").glob("*/*"))
    again = CliRunner().invoke(app, ["sweep", "alpha", "mild", "--values", "5", "--set", "rl.alpha=0.5"])
    assert again.exit_code == 0, again.output
    assert sorted((tmp_path / "data" / "checkpoints").glob("*/*")) == trained
    assert json.loads(path.read_text()) == rows[1:]
    records = Records(Layout(tmp_path / "data"))
    version = path.stem.removeprefix("sweep-alpha-")
    assert records.latest("rl_policy", version).digest == rows[0]["checkpoint"]  # the settings' own is the newest
