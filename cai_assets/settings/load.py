"""Merging the sources of settings and checking the result.

Later wins: the scale's preset, a YAML file (``CAI_SETTINGS``, or ``settings.yaml`` in the project's root),
the environment (``CAI_RL__BETA=0.05``), the command line, and the config of a run, such as the Dagster launchpad's,
which may not set everything (``run_config.py``). An unknown key is an error wherever it comes from, and
so is a credential where Dagster would keep it with the run.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from cai_assets.settings.address import with_credentials
from cai_assets.settings.base import SettingsError, project_root
from cai_assets.settings.model import Settings
from cai_assets.settings.presets import PRESETS
from cai_assets.settings.run_config import check_run_config

NOT_SETTINGS = {"CAI_SETTINGS", "CAI_AUTOMATION", "CAI_SENSOR_SECONDS", "CAI_UI_PASSWORD"}
ALTERNATIVE = re.compile(r"constrained-\w+|literal\[.*\]")  # what pydantic calls one of several types of a setting
# Of a model, what a later source says takes the place of what an earlier one says in another way.
REPLACED = {"server": {"base_urls", "api_key_env"}, "base_urls": {"server"}}


def load_settings(
    overrides: Mapping[str, Any] | None = None,
    *,
    run_config: Mapping[str, Any] | None = None,
    environment: Mapping[str, str] | None = None,
    file: Path | None = None,
) -> Settings:
    """Merge all sources and check them. Raise SettingsError for what is unknown, wrong, or not a run's to set."""
    env = os.environ if environment is None else environment
    if kept := next(with_credentials([overrides, run_config]), None):
        raise SettingsError(f"{kept} holds a credential, and Dagster keeps the settings of a run: name the variable "
                            "that holds the key in api_key_env, or give the address in settings.yaml or by an "
                            "environment variable such as CAI_MODELS__GENERATOR"
                            + ("; it is kept with this run already, so change it" if run_config else ""))
    layers = [_from_file(file, env), _from_environment(env), dict(overrides or {})]
    own = _merged(layers)
    if not run_config:
        return own
    wanted = _merged([*layers, run_config])
    check_run_config(wanted, own)
    return wanted


def _merged(layers: Sequence[Mapping[str, Any]]) -> Settings:
    scale = next((x["scale"] for x in reversed(layers) if "scale" in x), "smoke")
    if not isinstance(scale, str) or scale not in PRESETS:
        raise SettingsError(f"scale: {scale!r} is not one of {', '.join(PRESETS)}")
    merged: dict[str, Any] = {"scale": scale}
    for layer in (PRESETS[scale], *layers):
        merged = _merge(merged, layer)
    try:
        return Settings.model_validate(merged, context=merged.get("servers"))
    except ValidationError as e:
        raise SettingsError(_explain(e)) from None


def _from_file(file: Path | None, env: Mapping[str, str]) -> dict[str, Any]:
    named = file or (Path(env["CAI_SETTINGS"]) if env.get("CAI_SETTINGS") else None)
    path = named or project_root() / "settings.yaml"
    if not path.exists():
        if named:
            raise SettingsError(f"settings file {path} does not exist; create it or unset CAI_SETTINGS")
        return {}
    content = yaml_value(_text_of(path), str(path)) or {}
    if not isinstance(content, dict):
        raise SettingsError(f"{path}: expected 'key: value' lines at the top level")
    return content


def _from_environment(env: Mapping[str, str]) -> dict[str, Any]:
    # pydantic-settings ignores CAI_ names it does not know; a misspelled setting must be an error instead.
    out: dict[str, Any] = {}
    for name, text in env.items():
        if not name.startswith("CAI_") or name in NOT_SETTINGS:
            continue
        *groups, leaf = name.removeprefix("CAI_").lower().split("__")
        put(out, [*groups, leaf], yaml_value(text, name) if text.strip() else text, name)
    return out


def put(tree: dict[str, Any], path: Sequence[str], value: Any, where: str) -> None:
    """Set one value of a tree of settings. Raise SettingsError if it would be inside a value that is no group."""
    here = tree
    for group in path[:-1]:
        here = here.setdefault(group, {})
        if not isinstance(here, dict):
            raise SettingsError(f"{where}: {group} is set to {here!r} already: set the group or its settings, not both")
    here[path[-1]] = value


class _Once(yaml.SafeLoader):
    """Refuses a key that is there twice: YAML's own loader takes the last, and says nothing."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            if key.value in seen:
                problem = f"{key.value!r} is there twice"
                raise yaml.constructor.ConstructorError(problem=problem, problem_mark=key.start_mark)
            seen.add(str(key.value))
        return super().construct_mapping(node, deep=deep)


def yaml_value(text: str, where: str) -> Any:
    """A value as YAML reads it. Raise SettingsError, with its place, if it is none."""
    try:
        return yaml.load(text, _Once)  # noqa: S506 - a safe loader
    except (yaml.YAMLError, ValueError, RecursionError) as e:
        mark = getattr(e, "problem_mark", None)
        place = f" at line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise SettingsError(f"{where}: {text.strip()[:60]!r} is no YAML value: "
                            f"{getattr(e, 'problem', None) or type(e).__name__}{place}") from None


def _text_of(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise SettingsError(f"{path}: not UTF-8: save the file as UTF-8") from None


def _merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    replaced = {old for key in over for old in REPLACED.get(key, ())}
    out = {key: value for key, value in base.items() if key not in replaced}
    for key, value in over.items():
        old = out.get(key)
        both = isinstance(old, Mapping) and isinstance(value, Mapping)
        out[key] = _merge(old, value) if both else value  # type: ignore[arg-type]
    return out


def _explain(error: ValidationError) -> str:
    said: dict[str, list[str]] = {}
    for e in error.errors():
        where = ".".join(str(x) for x in e["loc"] if not ALTERNATIVE.fullmatch(str(x)))
        what = "no such setting" if e["type"] == "extra_forbidden" else e["msg"].removeprefix("Value error, ")
        said.setdefault(where, []).append(what)
    # What is wrong between two groups is in no place of its own.
    lines = [f"{where}: {', or '.join(what)}".removeprefix(": ") for where, what in said.items()]
    return "settings: " + "; ".join(lines) + ". 'cai settings' prints every setting and its value."
