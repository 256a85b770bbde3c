"""What Dagster keeps of the settings that a person typed for a run, so that the run can be executed again.

Only what the config of a run may have (``run_config.py``): no address, key or folder that settings.yaml does not have.
Of the rest it keeps the name and a digest of the value. Executed again, the run goes on if the settings have the same
value there by then, and else says which are missing.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from cai_assets.settings.base import SettingsError
from cai_assets.settings.load import load_settings, put
from cai_assets.settings.model import Settings
from cai_assets.settings.run_config import by_own_hand, problems


class Kept(NamedTuple):
    """``config``: overrides that a run's config may have; ``by_hand``: digests of the others, by name."""

    config: dict[str, Any]
    by_hand: dict[str, str]


def kept(typed: Mapping[str, Any]) -> Kept:
    """Part what was typed. Raise SettingsError if it cannot be used at all."""
    wanted = load_settings(typed)
    try:
        refused = {name for name, _ in problems(wanted, load_settings())}
    except SettingsError:  # without what was typed, nothing can run
        refused = {name for name, _ in _leaves(typed)}
    refused |= by_own_hand(wanted)
    parted = _parted(typed, wanted, refused)
    if not _loads(parted.config):  # a group from which a value is missing that it must have: all of it stays here
        parted = _parted(typed, wanted, refused | {name.rpartition(".")[0] for name in refused if "." in name})
    return parted


def _parted(typed: Mapping[str, Any], wanted: Settings, refused: set[str]) -> Kept:
    config: dict[str, Any] = {}
    by_hand = {}
    for name, value in _leaves(typed):
        if any(one == name or one.startswith(f"{name}.") or name.startswith(f"{one}.") for one in refused):
            by_hand[name] = _digest(wanted, name)
        else:
            put(config, name.split("."), value, name)
    return Kept(config, by_hand)


def _loads(config: Mapping[str, Any]) -> bool:
    try:
        load_settings(config)
    except SettingsError:
        return False
    return True


def check_by_hand(settings: Settings, by_hand: Mapping[str, str]) -> None:
    """Raise SettingsError if a setting that was typed for this run has another value now."""
    other = sorted(name for name, digest in by_hand.items() if _digest(settings, name) != digest)
    if other:
        raise SettingsError(f"run config: {', '.join(other)} was typed at the command line, and Dagster does not keep "
                            "it: run it from the command line again, or write the same into settings.yaml")


def as_understood(overrides: Mapping[str, Any], settings: Settings) -> dict[str, Any]:
    """The same overrides with the values that ``settings`` made of them."""
    tree: dict[str, Any] = {}
    for name, value in _leaves(overrides):
        put(tree, name.split("."), value if isinstance(value, str) else _value(settings, name), name)
    return tree


def _value(settings: Settings, name: str) -> Any:
    """The value of a setting as JSON; of the group around it where the name leads into a text."""
    value: Any = settings.model_dump(mode="json")
    for part in name.split("."):
        if not isinstance(value, Mapping) or part not in value:
            break
        value = value[part]
    return value


def _digest(settings: Settings, name: str) -> str:
    return hashlib.sha256(json.dumps(_value(settings, name), sort_keys=True).encode()).hexdigest()[:16]


def _leaves(tree: Mapping[str, Any], name: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        here = f"{name}.{key}" if name else str(key)
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, here)
        else:
            yield here, value
