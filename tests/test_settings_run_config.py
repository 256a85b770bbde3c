"""The config of a run reaches no secret, no other address and no other folder, whatever setting carries it; what the
user's own hand has written, it may repeat and choose among."""

from __future__ import annotations

import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Union, get_args, get_origin

import pytest
import yaml
from pydantic import BaseModel

from cai_assets.settings import Model, ServerAddress, Settings, SettingsError, load_settings, project_root
from cai_assets.settings.base import Source

POOL = {"base_urls": ["http://judges:8000/v1"], "api_key_env": "JUDGE_KEY"}
OTHER = {"base_urls": ["http://other:8000/v1"], "api_key_env": "OTHER_KEY"}
OWN: dict[str, Any] = {"servers": {"pool": POOL, "other": OTHER}, "data_root": "/elsewhere/data"}
EVIL = "http://evil.example/v1"


def configured(run_config: dict[str, Any], own: dict[str, Any] | None = None) -> Settings:
    return load_settings(OWN if own is None else own, run_config=run_config, environment={})


def at(name: str, value: Any) -> dict[str, Any]:
    """{'rl': {'beta': value}} of 'rl.beta'."""
    for part in reversed(name.split(".")):
        value = {part: value}
    return value  # type: ignore[no-any-return]


@pytest.mark.parametrize(("config", "name", "remedy"), [
    (at("data_root", "/tmp/other"), "data_root", "CAI_DATA_ROOT"),
    (at("data_root", "inside"), "data_root", "remove it from the run's config"),
    (at("constitutions", "/tmp/other"), "constitutions", "CAI_CONSTITUTIONS"),
    (at("servers.pool.base_urls", [EVIL]), "servers", "settings.yaml"),
    (at("servers.mine", {"base_urls": [EVIL]}), "servers", "settings.yaml"),
    (at("launchpad.folders", ["/"]), "launchpad", "settings.yaml"),
    (at("models.generator", {"source": "m", "base_urls": [EVIL]}), "models.generator", "models.generator.server"),
    (at("models.judge", {"source": "m", **POOL, "api_key_env": "OTHER_KEY"}), "models.judge", "servers"),
    (at("models.judge", {"source": "m", **POOL, "base_urls": OTHER["base_urls"]}), "models.judge", "servers"),
    (at("models.judge", {"source": "m", "base_urls": [*POOL["base_urls"], EVIL]}), "models.judge", "servers"),
    (at("models.judge.api_key_env", "DAGSTER_HOME"), "models.judge", "servers"),
    (at("evaluation.others.x", {"source": "m", "base_urls": [EVIL]}), "evaluation.others.x", "servers"),
    (at("models.generator", "/etc"), "models.generator.source", "launchpad.folders"),
    (at("models.generator", "../outside"), "models.generator.source", "launchpad.folders"),
    (at("models.generator", "~/model"), "models.generator.source", "launchpad.folders"),
    (at("models.generator", "a\0b"), "models.generator.source", "launchpad.folders"),
    (at("models.generator", {"source": "m", "tokenizer": "/etc"}), "models.generator.tokenizer", "launchpad.folders"),
    (at("evaluation.others.x", "/etc"), "evaluation.others.x.source", "launchpad.folders"),
    (at("prompts.paths", ["bundled", "/etc/passwd"]), "prompts.paths.1", "launchpad.folders"),
    (at("prompts.paths", ["data/../../x.jsonl"]), "prompts.paths.0", "launchpad.folders"),
    (at("supervised.mix", [{"path": "/etc/x", "share": 0.1}]), "supervised.mix.0.path", "launchpad.folders"),
    (at("reward.human", {"path": "/etc/x", "share": 0.1}), "reward.human.path", "launchpad.folders"),
    (at("gate.path", "/etc/x"), "gate.path", "launchpad.folders"),
    (at("monitors.general_text", "/etc/x"), "monitors.general_text", "launchpad.folders"),
    (at("evaluation.suites_folder", "/etc"), "evaluation.suites_folder", "launchpad.folders"),
    (at("evaluation.suites", ["../../etc/x"]), "evaluation.suites.0", "launchpad.folders"),
])
def test_what_only_the_users_hand_may_set_is_named_with_its_remedy(
    config: dict[str, Any], name: str, remedy: str
) -> None:
    with pytest.raises(SettingsError) as refused:
        configured(config)
    message = str(refused.value)
    assert message.startswith(f"run config: {name} ")
    assert remedy in message
    assert "\n" not in message
    assert EVIL not in message  # an address may carry a password
    load_settings({**OWN, "models": {}, **config}, environment={})  # the same by hand is fine


@pytest.mark.parametrize("config", [
    {"scale": "small", "rl": {"beta": 0.2}, "evaluation": {"suites": ["harmful"]}, "seed": 7},
    at("models.generator", "org/model"),
    at("models.generator", "models/mine"),
    at("models.generator", {"source": "org/model", "revision": "main", "backend": "scripted"}),
    at("models.judge", {"source": "m", "server": "pool"}),
    at("models.judge", {"source": "m", **POOL}),
    at("evaluation.others.x", {"source": "m", "server": "other"}),
    at("evaluation.others.x", "/elsewhere/data/checkpoints/rl_policy/abc"),
    at("prompts.paths", ["bundled", "mine.jsonl", str(project_root() / "mine.parquet")]),
    at("data_root", "/elsewhere/data"),
    {},
])
def test_a_run_chooses_among_what_is_allowed(config: dict[str, Any]) -> None:
    assert configured(config) == load_settings({**OWN, **config}, environment={})


def test_what_the_user_has_written_may_be_repeated() -> None:
    own = {"models": {"generator": "/models/base", "judge": {"source": "m", **POOL}}, "gate": {"path": "/sets/gate"}}
    assert configured(own, own) == load_settings(own, environment={})
    assert configured(at("models.critic", "/models/base"), own).models.role("critic").source == "/models/base"
    with pytest.raises(SettingsError, match=r"models\.critic\.source"):
        configured(at("models.critic", "/models/other"), own)


def test_folders_open_what_lies_in_them_and_links_do_not_lead_out(tmp_path: Path) -> None:
    allowed, outside = tmp_path / "allowed", tmp_path / "allowed-not"
    allowed.mkdir()
    outside.mkdir()
    (allowed / "link").symlink_to(outside)
    own = at("launchpad.folders", [str(allowed)])
    assert configured(at("models.generator", str(allowed / "model")), own).models.generator.source
    for path in (outside / "x", allowed / "link" / "x", allowed / ".." / "allowed-not"):
        with pytest.raises(SettingsError, match=r"models\.generator\.source"):
            configured(at("models.generator", str(path)), own)


def test_a_named_server_is_what_it_stands_for_so_that_keys_and_records_stay() -> None:
    named = load_settings({**OWN, "models": {"judge": {"source": "m", "server": "pool"}}}, environment={})
    spelled = load_settings({**OWN, "models": {"judge": {"source": "m", **POOL}}}, environment={})
    assert named == spelled
    assert named.models.model_dump(mode="json") == spelled.models.model_dump(mode="json")


@pytest.mark.parametrize(("earlier", "later", "urls", "key"), [
    ({"server": "pool"}, {"server": "other"}, OTHER["base_urls"], "OTHER_KEY"),
    ({"server": "pool"}, {"base_urls": ["http://a"]}, ["http://a"], "OPENAI_API_KEY"),
    ({**POOL}, {"server": "other"}, OTHER["base_urls"], "OTHER_KEY"),
    ({"server": "pool"}, {"server": None}, [], "OPENAI_API_KEY"),
])
def test_the_later_word_on_a_models_server_wins(
    tmp_path: Path, earlier: dict[str, Any], later: dict[str, Any], urls: list[str], key: str
) -> None:
    file = tmp_path / "settings.yaml"
    file.write_text(yaml.safe_dump({**OWN, **at("models.judge", {"source": "m", **earlier})}))
    judge = load_settings(at("models.judge", later), environment={"CAI_SETTINGS": str(file)}).models.judge
    assert judge == Model(source="m", base_urls=tuple(urls), api_key_env=key)


@pytest.mark.parametrize(("settings", "said"), [
    (at("models.judge", {"source": "m", "server": "nobody"}), "no server 'nobody'; add it to the setting 'servers'"),
    (at("models.judge", {"server": "pool", "base_urls": ["http://a"]}), "'pool' brings its own base_urls"),
    (at("models.judge", {"server": "pool", "api_key_env": "X"}), "'pool' brings its own api_key_env"),
    (at("servers.empty", {"api_key_env": "X"}), "'empty' has no base_urls"),
    (at("servers.pool.base_url", "http://a"), "servers.pool.base_url: no such setting"),
    ({"servers": {"x": {"url": "http://a"}}, **at("models.judge.server", "x")}, "models.judge.url: no such setting"),
    ({"servers": {"x": "http://a"}, **at("models.judge.server", "x")}, "servers.x"),
    (at("models.judge.server", ["pool"]), "no server"),
    (at("prompts.paths", ["~nobody-at-all/x"]), "prompts.paths.0"),
])
def test_a_server_that_is_none_is_named(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(SettingsError, match=said) as wrong:
        load_settings({**settings, "servers": {**OWN["servers"], **settings.get("servers", {})}}, environment={})
    assert "\n" not in str(wrong.value)


def texts(annotation: Any, name: str) -> Iterator[tuple[str, Any]]:
    """Every setting that holds a text or a path, as a config that leads out of the project by it."""
    if annotation is Source:
        yield f"{name}.path", {"path": "/outside/of/the/project", "share": 0.1}
    elif isinstance(annotation, type) and issubclass(annotation, BaseModel):
        for key, field in annotation.model_fields.items():
            yield from ((n, {key: v}) for n, v in texts(field.annotation, f"{name}.{key}"))
    elif annotation in {str, Path}:
        yield name, "/outside/of/the/project"
    elif annotation is ServerAddress:
        yield name, "http://outside-of-the-project:8000/v1"
    elif get_origin(annotation) in {Union, types.UnionType}:
        yield from (found for part in get_args(annotation) for found in texts(part, name))
    elif get_origin(annotation) is dict:
        yield from ((n, {"key": v}) for n, v in texts(get_args(annotation)[1], f"{name}.key"))
    elif get_origin(annotation) is tuple:
        yield from ((n, [v]) for n, v in texts(get_args(annotation)[0], name))
    elif hasattr(annotation, "__metadata__"):
        yield from texts(get_args(annotation)[0], name)


TEXTS = list(texts(Settings, ""))


def test_the_settings_that_hold_texts_are_found() -> None:
    names = {name.lstrip(".") for name, _ in TEXTS}
    assert {"data_root", "models.generator.source", "models.judge.base_urls", "evaluation.others.key.tokenizer",
            "supervised.mix.path", "reward.human.path", "gate.path", "servers.key.api_key_env"} <= names


@pytest.mark.parametrize(("name", "config"), TEXTS)
def test_no_setting_leads_out_of_the_project_neither_those_to_come(name: str, config: dict[str, Any]) -> None:
    with pytest.raises(SettingsError) as refused:
        configured(config, {})
    assert "Field required" not in str(refused.value)


def test_a_named_server_keeps_its_login() -> None:
    servers = {"pool": {"base_urls": ["http://me:secret@judges:8000/v1"]}}
    env = {"CAI_SERVERS": str(servers), "CAI_MODELS__JUDGE": "{source: m, server: pool}"}
    judge = load_settings(environment=env).models.role("judge")
    assert judge.base_urls[0].login == ("me", "secret")
    assert load_settings(run_config={"models": {"judge": {"source": "n", "server": "pool"}}}, environment=env)
