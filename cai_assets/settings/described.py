"""Every setting with its type, limits, default and description: what ``cai settings``, the JSON Schema of
``settings.yaml`` and the reference in docs/settings.md are made of.

The descriptions are the texts below the fields of the models, so that nothing can disagree with what is read.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import BaseModel

from cai_assets.settings.base import OWN_HAND
from cai_assets.settings.model import Settings

PATH = Path(__file__).with_name("settings.schema.json")
SERVER = "Name under 'servers', which stands for its base_urls and api_key_env."


class Setting(NamedTuple):
    """One setting by its dotted name. ``group``: others are in it. ``own_hand``: no config of a run may set it."""

    name: str
    about: str
    kind: str
    default: Any
    group: bool
    own_hand: bool


def schema() -> dict[str, Any]:
    """JSON Schema, draft 2020-12, of settings.yaml."""
    generated = Settings.model_json_schema()
    model = generated["$defs"]["Model"]
    model["properties"]["server"] = {"type": "string", "description": SERVER}
    generated["$defs"]["Model"] = {"anyOf": [{"type": "string", "description": "The model's source."}, model]}
    for each in (generated, *generated["$defs"].values()):
        for field in each.get("properties", {}).values():
            field.pop("title", None)
            field.pop("default", None)  # they depend on the scale; 'cai settings' prints them
            field["description"] = one_line(field.get("description"))
    return {"$schema": "https://json-schema.org/draft/2020-12/schema"} | generated | {"title": "cai-assets settings"}


def render() -> str:
    """The schema as the text of its file."""
    return json.dumps(schema(), indent=1, ensure_ascii=False) + "\n"


def described(group: BaseModel | None = None, prefix: str = "") -> Iterator[Setting]:
    """Every setting of a group, depth first; without one, of the defaults of the smallest scale."""
    group = group or Settings()
    kinds = type(group).model_json_schema()
    for name, field in type(group).model_fields.items():
        value = getattr(group, name)
        inner = value if isinstance(value, BaseModel) else None
        kind = _kind(kinds["properties"][name], kinds.get("$defs", {}))
        yield Setting(prefix + name, one_line(field.description), kind, value, inner is not None,
                      OWN_HAND in field.metadata)
        if inner is not None:
            yield from described(inner, f"{prefix}{name}.")


def one_line(description: str | None) -> str:
    """A description without the line breaks of its source."""
    return " ".join((description or "").split())


def _kind(shape: dict[str, Any], shapes: dict[str, Any]) -> str:
    """A type and its limits in words: 'integer, at least 1'."""
    shape = {**shape, **shapes.get(str(shape.get("$ref", "")).rpartition("/")[2], {})}
    options = [_kind(s, shapes) for s in shape.get("anyOf", []) if s != {"type": "null"}]
    if options:
        return " or ".join(dict.fromkeys(options)) + (" or null" if {"type": "null"} in shape["anyOf"] else "")
    if "enum" in shape:
        return ", ".join(map(str, shape["enum"]))
    items = [shape["items"]] if isinstance(shape.get("items"), dict) else shape.get("prefixItems", [])
    of = f" of {_kind(items[0], shapes)}" if items else ""
    limits = [f"{word} {shape[key]:g}" for key, word in (
        ("minimum", "at least"), ("exclusiveMinimum", "above"), ("maximum", "at most"), ("exclusiveMaximum", "below"),
    ) if key in shape]
    name = {"array": "list", "object": "group", "boolean": "true or false"}.get(str(shape.get("type")),
                                                                                str(shape.get("type", "any")))
    return ", ".join([name + of, *limits])


if __name__ == "__main__":
    PATH.write_text(render(), encoding="utf-8")
