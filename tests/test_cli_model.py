"""``cai model check`` tells what a model takes and what is adapted; a plan's first lines tell the same."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import chat_templates as known
import pytest
from fake_server import MODEL, serving
from tiny_models import tiny_model
from typer.testing import CliRunner

from cai_assets.cli import app
from cai_assets.pipeline.project import Project
from cai_assets.plan.models import said_of_models
from cai_assets.settings import load_settings


@pytest.fixture(autouse=True)
def _data_root(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CAI_DATA_ROOT", str(tmp_path / "data"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


def with_template(folder: Path, template: str) -> Path:
    tiny_model(folder)
    (folder / "chat_template.jinja").write_text(template)
    return folder


def check(*arguments: str) -> tuple[int, dict[str, dict[str, Any]]]:
    result = CliRunner().invoke(app, ["model", "check", *arguments, "--json"])
    return result.exit_code, {f["behavior"]: f for f in json.loads(result.stdout)}


def test_a_folder_is_told_by_what_its_template_and_tokenizer_do(tmp_path: Path) -> None:
    code, found = check(str(with_template(tmp_path / "model", known.GEMMA)))
    assert code == 0
    assert found["system turn"]["found"] == "refused"
    assert "joined to the first turn of the user" in found["system turn"]["done"]
    assert found["beginning of text"]["found"] == "written by the template"
    assert found["padding"]["done"] == "the reward model pads with <unk>"
    assert found["input and output embeddings"]["found"] == "tied"
    text = CliRunner().invoke(app, ["model", "check", str(tmp_path / "model")])
    assert "everything works" in text.stdout


def test_an_end_of_turn_that_is_not_the_end_of_text_is_told(tmp_path: Path) -> None:
    folder = with_template(tmp_path / "model", known.CHATML.replace("<|im_end|>", "<pad>"))
    _, found = check(str(folder))
    assert found["end of turn"]["found"] == "<pad>, which is not <|im_end|>"
    assert "training writes <pad>" in found["end of turn"]["done"]


def test_a_folder_that_cannot_be_loaded_is_exit_code_1(tmp_path: Path) -> None:
    folder = with_template(tmp_path / "model", known.CHATML)
    (folder / "model.safetensors").unlink()
    code, found = check(str(folder))
    assert code == 1
    assert "no .safetensors file" in found["files"]["hint"]


def test_a_served_model_is_told_by_what_it_answers() -> None:
    def takes(body: dict[str, Any], _: int) -> str:
        messages = body.get("messages", [{"role": "user"}])
        if messages[0]["role"] == "system":
            return 'says:400 {"error": {"message": "System role not supported"}}'
        if "continue_final_message" in body:
            return 'says:400 {"error": {"message": "Unrecognized request argument supplied: continue_final_message"}}'
        return "ok"

    with serving(takes) as server:
        code, found = check(server.url, "--name", MODEL)
    assert code == 1
    assert found["a question"]["found"] == "taken"
    assert "joined to the first turn of the user" in found["system turn"]["done"]
    assert "labels.style=plain" in found["last turn of the assistant"]["hint"]


def test_an_address_needs_a_name_and_a_path_must_exist(tmp_path: Path) -> None:
    for path, why in (("http://127.0.0.1:1/v1", "--name"), (str(tmp_path / "none"), "does not exist")):
        result = CliRunner().invoke(app, ["model", "check", path])
        assert result.exit_code == 2
        assert why in result.stderr


def test_a_plans_first_lines_name_what_is_adapted(tmp_path: Path) -> None:
    folder = with_template(tmp_path / "model", known.GEMMA)
    other = with_template(tmp_path / "other", known.CHATML)
    models = {"generator": {"source": str(folder)}, "judge": {"source": str(other)}}
    lines = list(said_of_models(Project(load_settings({"models": models}))))
    who = f"{folder} (generator, critic, labeller, policy, writer)"
    assert lines == [f"{who}: system turn: refused; its text is joined to the first turn of the user",
                     f"{who}: two turns of one role in a row: refused; they are joined"]
