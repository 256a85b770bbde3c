"""``cai settings``: every setting, its value, and what it is."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator
from typing import Any

import typer
import yaml
from pydantic import BaseModel

from cai_assets.cli.common import AsJson, Scale, Set, app, out, parse_overrides, read_settings
from cai_assets.settings import described
from cai_assets.settings.columns import Columns

WIDTH = 100  # of a comment


@app.command()
def settings(scale: Scale = None, set_: Set = None, json_: AsJson = False) -> None:
    """Print every setting, what it is, and its value, in the format of settings.yaml."""
    chosen = read_settings(parse_overrides(scale, set_))
    if json_:
        typer.echo(json.dumps(_every(chosen), indent=1))
        return
    out.print(f"# yaml-language-server: $schema={described.PATH}", markup=False, highlight=False, soft_wrap=True)
    for line in _lines(chosen):
        out.print(line, style="dim" if line.lstrip().startswith("# ") else "", markup=False, highlight=False,
                  soft_wrap=True)


def _lines(group: BaseModel, indent: str = "") -> Iterator[str]:
    """YAML with the description above each value."""
    values = _every(group)
    for name, value in values.items():
        about = type(group).model_fields[name].description or ""
        yield from (f"{indent}# {line}" for line in textwrap.wrap(about, WIDTH))
        inner = getattr(group, name)
        if isinstance(inner, BaseModel) and not isinstance(inner, Columns):
            yield f"{indent}{name}:"
            yield from _lines(inner, f"{indent}  ")
        else:
            yield textwrap.indent(yaml.safe_dump({name: value}, sort_keys=False, width=1000).rstrip("\n"), indent)


def _every(group: BaseModel) -> dict[str, Any]:
    """The values as they are written down, and the maps of columns, which are not where they say nothing."""
    written = group.model_dump(mode="json")
    return {name: value.mapped if isinstance(value, Columns) else _every(value) if isinstance(value, BaseModel)
            else written[name] for name, value in group if name in written or isinstance(value, Columns)}
