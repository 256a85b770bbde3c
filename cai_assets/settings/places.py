"""Which settings name files and folders. Found by their types: a setting added tomorrow is among them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, NamedTuple, Union, get_args, get_origin

from cai_assets.registry.engines import AUTO, BACKENDS
from cai_assets.settings.base import Group
from cai_assets.settings.model import Settings
from cai_assets.settings.models import Model


class Place(NamedTuple):
    """A setting that names ``paths``, by its name, such as 'supervised.mix.0.path'. ``model``: they may instead be the
    names of models."""

    setting: str
    paths: tuple[str, ...]
    model: bool = False


def places(settings: Mapping[str, Any]) -> Iterator[Place]:
    """Every setting that names a path. ``settings``: groups by name, as JSON has them, of this release or another."""
    yield from _of_group(Settings, settings, "")


def _of_group(group: type[Group], value: Mapping[str, Any], at: str) -> Iterator[Place]:
    if group is Model:
        yield from _of_model(value, at)
    for name, field in group.model_fields.items():
        yield from _of(field.annotation, value.get(name), f"{at}{name}")


def _of(kind: Any, value: Any, at: str) -> Iterator[Place]:
    """``kind``: an annotation. A value of another form, as an earlier release may have had, names nothing."""
    kind, inner = _bare(kind), get_args(_bare(kind))
    match value:
        case str() if kind is Path:
            yield Place(at, (value,))
        case [*paths] if get_origin(kind) is tuple and _bare(inner[0]) is Path and paths:
            yield Place(at, tuple(map(str, paths)))
        case [*items] if get_origin(kind) is tuple:
            for i, item in enumerate(items):
                yield from _of(inner[0], item, f"{at}.{i}")
        case {} if get_origin(kind) is dict:
            for name, item in value.items():
                yield from _of(inner[1], item, f"{at}.{name}")
        case {} if isinstance(kind, type) and issubclass(kind, Group):
            yield from _of_group(kind, value, f"{at}.")


def _bare(kind: Any) -> Any:
    """Without what is said about it, and without 'or None'."""
    if get_origin(kind) is Annotated:
        return _bare(get_args(kind)[0])
    if get_origin(kind) in {Union, UnionType}:
        return _bare(next(part for part in get_args(kind) if part is not type(None)))
    return kind


def _of_model(value: Mapping[str, Any], at: str) -> Iterator[Place]:
    """A folder of weights, for a model that runs here; and a tokenizer's."""
    backend = BACKENDS.find(name) if (name := value.get("backend", AUTO)) != AUTO else None
    here = not value.get("base_urls") if name == AUTO else backend is not None and backend.in_process
    if here and value.get("source"):
        yield Place(f"{at}source", (value["source"],), model=True)
    if value.get("tokenizer"):
        yield Place(f"{at}tokenizer", (value["tokenizer"],), model=True)
