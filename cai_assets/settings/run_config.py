"""What the config of a run may set: the launchpad's, a GraphQL client's, a schedule's.

Whoever gets at Dagster's web server can launch a run with any config. So a run chooses among what the user's own hand
(settings.yaml, the environment, the command line) has allowed: it reaches no secret, no other address, no other folder.
The rule goes by what a value is and not by a setting's name, so that it holds for settings to come: a text or path that
the user has not written may neither be an address nor lead out of the allowed folders, the servers of a model are those
of a model or name that the user has written, and fields marked ``OWN_HAND`` stay as they are.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from cai_assets.settings.address import ServerAddress
from cai_assets.settings.base import OWN_HAND, SettingsError, project_root
from cai_assets.settings.model import Settings
from cai_assets.settings.models import Model, Server

PACKAGE = Path(__file__).parents[1]  # what is bundled


class Part(NamedTuple):
    """A setting, a group of them, or a value in one: its name ("prompts.paths.0"), and the field if it is one."""

    name: str
    value: Any
    field: FieldInfo | None


def check_run_config(wanted: Settings, own: Settings) -> None:
    """Raise SettingsError if ``wanted``, the settings with the config of a run, has what ``own``, those without, rules
    out. The message names the first such setting and what to do."""
    for name, problem in problems(wanted, own):
        raise SettingsError(f"run config: {name} {problem}")


def problems(wanted: Settings, own: Settings) -> Iterator[tuple[str, str]]:
    """Every setting of ``wanted`` that no run's config may have where the user has ``own``, with what to do."""
    rule = _Rule(own)
    yield from ((part.name, problem) for part in _parts(wanted) if (problem := rule.problem(part)))


def by_own_hand(settings: Settings) -> set[str]:
    """The settings that no run's config has a place for, whatever their values."""
    return {part.name for part in _parts(settings) if part.field and OWN_HAND in part.field.metadata}


class _Rule:
    def __init__(self, own: Settings) -> None:
        parts = list(_parts(own))
        self._own = {part.name: part.value for part in parts}
        self._texts = {str(part.value) for part in parts if isinstance(part.value, str | Path)}
        self._addresses = {part.value for part in parts if isinstance(part.value, ServerAddress)}
        self._servers = {Server(), *_servers(parts)}
        self._servers |= {Server(api_key_env=s.api_key_env) for s in self._servers}  # a key for no server is not used
        roots = (project_root(), PACKAGE, Path(own.data_root), *own.launchpad.folders)
        self._folders = [folder.resolve() for folder in roots]

    def problem(self, part: Part) -> str:
        """What is wrong with a part and what to do; empty if nothing is."""
        name, value, field = part
        if field and OWN_HAND in field.metadata and value != self._own[name]:
            return ("is not for a run to choose: remove it from the run's config, or set it in settings.yaml, as "
                    f"CAI_{name.upper().replace('.', '__')}, or on the command line")
        if isinstance(value, Model) and value.server not in self._servers:
            return ("has base_urls or an api_key_env that settings.yaml does not have: add them there under 'servers', "
                    f"and choose them by name, as {name}.server")
        if self._is_new(value) and self._leads_out(str(value)):
            return ("is an address, or lies outside the project and the folders that settings.yaml allows: remove it "
                    "from the run's config, or add its folder to launchpad.folders in settings.yaml")
        return ""

    def _is_new(self, value: Any) -> bool:
        """Whether it is a text, a path or an address that the user has not written."""
        if isinstance(value, ServerAddress):
            return value not in self._addresses
        return isinstance(value, str | Path) and str(value) not in self._texts

    def _leads_out(self, text: str) -> bool:
        if "://" in text:
            return True
        try:
            path = (project_root() / Path(text).expanduser()).resolve()
        except (OSError, RuntimeError, ValueError):  # a loop of links, an unknown user, a NUL
            return True
        return not any(path.is_relative_to(folder) for folder in self._folders)


def _servers(parts: Iterable[Part]) -> Iterator[Server]:
    """Servers with their keys, as they are written."""
    for part in parts:
        if isinstance(part.value, Model):
            yield part.value.server
        elif isinstance(part.value, Server):
            yield part.value


def _parts(value: Any, name: str = "", field: FieldInfo | None = None) -> Iterator[Part]:
    """A value and all that is in it, the keys of mappings included."""
    yield Part(name, value, field)
    for key, inner, its in _inside(value):
        yield from _parts(inner, f"{name}.{key}" if name else key, its)


def _inside(value: Any) -> Iterator[tuple[str, Any, FieldInfo | None]]:
    if isinstance(value, BaseModel):
        yield from ((key, getattr(value, key), field) for key, field in type(value).model_fields.items())
    elif isinstance(value, Mapping):
        yield from ((str(key), key, None) for key in value)
        yield from ((str(key), part, None) for key, part in value.items())
    elif isinstance(value, list | tuple | set | frozenset):
        yield from ((str(place), part, None) for place, part in enumerate(value))
