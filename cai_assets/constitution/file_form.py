"""A constitution as the text of a file: this project's YAML, and the JSON of Hugging Face's llm-swarm.

Guarantee: what is written reads back as the same constitution, by ``load.parse`` and by ``importing``. A document of
clauses is written as one; without its articles only where they would not bring back the principles (a derived version).
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import yaml

from cai_assets.constitution.clauses import loose
from cai_assets.constitution.model import Constitution, Principle

WIDTH = 110
HUGGING_FACE = {"critique": "critic"}  # other names of the fields there


class _Quoted(str):
    """A text that is written in quotes."""

    __slots__ = ()


class _Dumper(yaml.SafeDumper):
    """Writes a text of several lines as a block."""


_Dumper.add_representer(_Quoted, lambda d, text: d.represent_scalar("tag:yaml.org,2002:str", str(text), style='"'))
_Dumper.add_representer(str, lambda d, text: d.represent_scalar("tag:yaml.org,2002:str", text,
                                                               style="|" if "\n" in text else None))


def as_yaml(c: Constitution, comments: Iterable[str] = ()) -> str:
    """The text of a constitution file; its name is not in it. ``comments``: lines at the top."""
    content: dict[str, Any] = {"version": _Quoted(c.version)}
    if c.description:
        content["description"] = c.description
    content |= _document(c)
    if shots := c.few_shots.model_dump(mode="json", exclude_none=True, exclude_defaults=True):
        content["few_shots"] = shots
    head = "".join(f"# {' '.join(line.split())}\n" for line in comments)
    return head + yaml.dump(content, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=WIDTH)


def as_json(c: Constitution) -> str:
    """What llm-swarm reads (``critic`` and ``revision`` of ``constitutions``, ``system_chats``), the rest beside it."""
    content: dict[str, Any] = {"version": c.version, "description": c.description} if c.description else {
        "version": c.version}
    content |= {key: value for key, value in _document(c).items() if key != "principles"}
    content["constitutions"] = [{HUGGING_FACE.get(k, k): v for k, v in _facts(p).items()} for p in c.principles]
    content["system_chats"] = [
        [{"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(shot.model_dump().values())]
        for shot in c.few_shots.revision]
    if preference := c.few_shots.model_dump(mode="json", exclude_none=True, include={"preference"})["preference"]:
        content["few_shots"] = {"preference": preference}
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"


def _document(c: Constitution) -> dict[str, Any]:
    """Articles and what belongs to them, and the principles that are no clause's."""
    own = loose(c) if c.articles else None
    if own is None:
        return {"principles": [_facts(p) for p in c.principles]}
    facts = c.model_dump(mode="json", exclude_none=True, exclude_defaults=True, include={"fill", "parent", "articles"})
    return {**{key: facts[key] for key in ("parent", "fill", "articles") if key in facts},
            **({"principles": [_facts(p) for p in own]} if own else {})}


def _facts(p: Principle) -> dict[str, Any]:
    return p.model_dump(mode="json", exclude_none=True, exclude_defaults=True)
