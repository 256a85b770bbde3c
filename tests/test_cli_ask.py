"""``cai ask`` on the real model: what it costs first, an answer that is stored, and the same one again for nothing."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from model_fixtures import prepared_model
from typer.testing import CliRunner

from cai_assets.cli import app

REPOSITORY = Path(__file__).parents[1]
PROMPT = "Name one use of a ladder."


@pytest.mark.model
def test_the_real_model_answers_once_and_then_from_the_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(REPOSITORY / "constitutions", tmp_path / "constitutions")
    settings = {"constitutions": str(tmp_path / "constitutions"), "data_root": str(tmp_path / "data"),
                "models": {"generator": {"source": str(prepared_model().path), "backend": "transformers"}},
                "evaluation": {"max_tokens": 12}}
    (tmp_path / "settings.yaml").write_text(yaml.safe_dump(settings))
    monkeypatch.setenv("CAI_SETTINGS", str(tmp_path / "settings.yaml"))

    def asked(*options: str) -> tuple[dict[str, Any], str]:
        done = CliRunner().invoke(app, ["ask", PROMPT, "plain-speech", "--json", *options])
        assert done.exit_code == 0, done.output
        return json.loads(done.stdout), done.stderr

    planned, said = asked("--plan")
    assert "1 of 1 answers to sample, of at most 12 tokens each; loads 1 model of 135 million parameters" in said
    assert planned["answers"][0]["text"] is None
    first, _ = asked()
    again, said = asked()
    assert first["answers"][0]["text"].strip()
    assert (first["answers"][0]["status"], again["answers"][0]["status"]) == ("generated", "reused")
    assert first["answers"][0]["text"] == again["answers"][0]["text"]
    assert "All 1 answers are stored" in said
