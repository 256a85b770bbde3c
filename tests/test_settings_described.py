"""Each setting has a description, from which the terminal, the schema for editors and the reference are made."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from docs_scripts import script
from typer.testing import CliRunner

from cai_assets.cli import app
from cai_assets.evals.suites import schema as suites
from cai_assets.settings import Settings, load_settings
from cai_assets.settings.described import PATH, described, render, schema

ROOT = Path(__file__).parents[1]


def test_each_setting_has_a_description_that_is_a_sentence() -> None:
    for setting in described():
        assert setting.about.endswith("."), setting.name
        assert setting.kind not in {"any", ""}, setting.name


def test_the_schema_files_and_the_reference_are_current() -> None:
    assert PATH.read_text(encoding="utf-8") == render(), "run: python -m cai_assets.settings.described"
    assert suites.PATH.read_text(encoding="utf-8") == suites.render(), "run: python -m cai_assets.evals.suites.schema"
    page = script("settings")
    assert page.PAGE.read_text(encoding="utf-8") == page.page(), "run: python docs/settings.py"


@pytest.mark.parametrize(("values", "valid"), [
    ({"rl": {"beta": 0.1}}, True),
    ({"rl": {"betta": 0.1}}, False),
    ({"rl": {"beta": -1}}, False),
    ({"models": {"critic": "a-model", "judge": {"source": "b", "server": "pool"}}}, True),
    ({"models": {"critic": {"sauce": "a-model"}}}, False),
    ({"servers": {"pool": {"base_urls": ["http://host:8000/v1"]}}}, True),
    ({"evaluation": {"others": {"rlhf": "/path"}}, "data_root": "elsewhere"}, True),
])
def test_the_schema_takes_what_the_loader_takes(values: dict[str, Any], valid: bool) -> None:
    assert jsonschema.Draft202012Validator(schema()).is_valid(values) is valid


def test_the_schema_takes_what_cai_settings_prints_and_the_loader_reads_it_back(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["settings", "-s", "prompts.columns={prompt: question}", "-s", "rl.beta=0.25"])
    assert result.exit_code == 0, result.output
    assert "# Weight of the KL penalty to the SL policy.\n  beta: 0.25\n" in result.stdout
    assert result.stdout.splitlines()[0] == f"# yaml-language-server: $schema={PATH}"
    jsonschema.validate(yaml.safe_load(result.stdout), schema())
    (tmp_path / "settings.yaml").write_text(result.stdout)
    expected = load_settings({"prompts": {"columns": {"prompt": "question"}}, "rl": {"beta": 0.25}}, environment={})
    assert load_settings(environment={}, file=tmp_path / "settings.yaml") == expected
    as_json = json.loads(CliRunner().invoke(app, ["settings", "--json"]).stdout)
    assert set(as_json) == set(Settings.model_fields)


@pytest.mark.parametrize("file", sorted((ROOT / "cai_assets" / "data" / "suites").glob("*.yaml")), ids=lambda p: p.stem)
def test_the_schema_of_suites_takes_the_bundled_ones(file: Path) -> None:
    values = yaml.safe_load(file.read_text(encoding="utf-8"))
    jsonschema.validate(values, suites.schema())
    assert not jsonschema.Draft202012Validator(suites.schema()).is_valid({**values, "knid": "harmful"})
