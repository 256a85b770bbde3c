from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from cai_assets.settings import PRESETS, SettingsError, load_settings, project_root


@pytest.mark.parametrize("scale", list(PRESETS))
def test_every_scale_is_valid_and_prints_as_a_settings_file(scale: str, tmp_path: Path) -> None:
    settings = load_settings({"scale": scale}, environment={})
    file = tmp_path / "settings.yaml"
    file.write_text(yaml.safe_dump(settings.model_dump(mode="json")))
    assert load_settings(environment={"CAI_SETTINGS": str(file)}) == settings


def test_later_sources_win(tmp_path: Path) -> None:
    file = tmp_path / "s.yaml"
    file.write_text("scale: small\nrl: {beta: 0.2, steps: 7}\ncritique: {rounds: 3}\n")
    env = {"CAI_SETTINGS": str(file), "CAI_RL__BETA": "0.3", "CAI_PROMPTS__PATHS": "[a.jsonl]"}
    settings = load_settings({"rl": {"beta": 0.4}}, environment=env)
    assert (settings.scale, settings.rl.beta, settings.rl.steps, settings.critique.rounds) == ("small", 0.4, 7, 3)
    assert settings.prompts.paths == (project_root() / "a.jsonl",)


@pytest.mark.parametrize(("env", "message"), [
    ({"CAI_RL__BETTA": "1"}, "rl.betta: no such setting"),
    ({"CAI_NONSENSE": "1"}, "nonsense: no such setting"),
    ({"CAI_RL__BETA": "-1"}, "rl.beta"),
    ({"CAI_SCALE": "huge"}, "scale"),
    ({"CAI_SETTINGS": "/does/not/exist.yaml"}, "does not exist"),
])
def test_what_is_unknown_or_wrong_is_an_error(env: dict[str, str], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        load_settings(environment=env)


def test_one_model_plays_every_role_unless_told_otherwise() -> None:
    settings = load_settings({"models": {"generator": "org/model", "judge": "/other"}}, environment={})
    assert settings.models.role("critic").source == settings.models.role("policy").source == "org/model"
    assert settings.models.role("judge").source == "/other"


def test_a_setting_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "s.yaml"
    file.write_text("seed: 1\nengine:\n  dtype: auto\nseed: 2\n")
    with pytest.raises(SettingsError, match="'seed' is there twice at line 4, column 1"):
        load_settings(environment={}, file=file)
    file.write_text("engine: {dtype: auto, dtype: float32}")
    with pytest.raises(SettingsError, match="'dtype' is there twice"):
        load_settings(environment={}, file=file)


@pytest.mark.parametrize("value", [0, "fast"])
def test_a_setting_of_two_types_is_named_once_and_not_by_its_types(value: object) -> None:
    with pytest.raises(SettingsError) as e:
        load_settings({"engine": {"concurrency": value}}, environment={})
    assert str(e.value).startswith("settings: engine.concurrency: Input should be ")
    assert str(e.value).count("concurrency") == 1
    assert "or Input should be 'auto'" in str(e.value)


@pytest.mark.parametrize("text", ["s3://bucket/some/prefix", "gs://bucket", "az://account/container/prefix/"])
def test_a_data_root_may_be_a_place_in_an_object_store(text: str) -> None:
    assert load_settings({"data_root": text}, environment={}).data_root == text.rstrip("/")
    assert load_settings(environment={"CAI_DATA_ROOT": text}).data_root == text.rstrip("/")
    assert load_settings({"data_root": "folder"}, environment={}).data_root == project_root() / "folder"


@pytest.mark.parametrize(("text", "what"), [
    ("s3://key:hush@bucket/x", "credential"), ("s3://bucket/x?token=hush", "credential"),
    ("s3://bucket/x#hush", "credential"), ("ftp://bucket/x", "no place in an object store"),
    ("s3:///x", "no place"), ("s3://bucket/a/../b", "no place"), ("s3://bucket/a/%2e%2e/b", "no place"),
])
def test_a_data_root_elsewhere_is_refused_without_its_credentials(text: str, what: str) -> None:
    for how in ({"values": {"data_root": text}, "environment": {}}, {"environment": {"CAI_DATA_ROOT": text}}):
        with pytest.raises(SettingsError, match=what) as e:
            load_settings(how.get("values"), environment=how["environment"])
        assert "hush" not in str(e.value)
        assert "\n" not in str(e.value)
