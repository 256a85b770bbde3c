"""A model's chat template as a function of messages, rendered as transformers renders it and without loading it.

Dates that a template asks for are fixed: a prompt must not depend on the day.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, NoReturn

from jinja2 import Template, nodes
from jinja2.exceptions import TemplateError
from jinja2.ext import Extension, loopcontrols
from jinja2.meta import find_undeclared_variables
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

FIXED_DATE = datetime(2024, 7, 26, tzinfo=UTC)
# The dialogue frame of Bai et al. 2022, for models that come without a chat template.
FRAME = (
    "{% for m in messages %}{% if m.role == 'system' %}{{ m.content }}{% else %}"
    "{{ '\n\nHuman: ' if m.role == 'user' else '\n\nAssistant: ' }}{{ m.content }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '\n\nAssistant:' }}{% endif %}"
)
GIVEN = frozenset({"messages", "add_generation_prompt", "tools", "documents"})  # by whoever renders, always
NAMED = ("bos_token", "eos_token", "unk_token", "pad_token")

Turn = Mapping[str, Any]


class Refused(ValueError):
    """The template does not take these messages; the message is its own sentence."""


class ChatTemplate:
    """The text of a template, and the special tokens that it may name. ``framed``: it is FRAME, for want of its own."""

    def __init__(self, text: str | None, tokens: Mapping[str, Any]) -> None:
        self.framed = not text
        self.text = text or FRAME
        self.tokens = dict(tokens)

    @classmethod
    def of(cls, tokenizer: Any) -> ChatTemplate:
        """A loaded tokenizer's."""
        return cls(_default(tokenizer.chat_template), tokenizer.special_tokens_map)

    @classmethod
    def in_folder(cls, path: Path) -> ChatTemplate:
        """A model folder's, which must be whole."""
        config = _json(path / "tokenizer_config.json")
        said = {**_json(path / "special_tokens_map.json"), **config}
        file = path / "chat_template.jinja"
        text = file.read_text(encoding="utf-8") if file.is_file() else _default(config.get("chat_template"))
        return cls(text, {name: _content(said[name]) for name in NAMED if said.get(name)})

    def render(self, messages: Iterable[Turn], *, prompt: bool, **variables: Any) -> str:
        """The chat as text. ``prompt``: with the beginning of an answer. Raise Refused."""
        try:
            return _compiled(self.text).render(
                messages=list(messages), add_generation_prompt=prompt, tools=None, documents=None,
                **{**self.tokens, **variables})
        except Exception as e:  # a template is a program, and fails in any way
            raise Refused(f"the chat template refuses these messages: {e}") from e

    @cached_property
    def variables(self) -> tuple[str, ...]:
        """What it reads and nobody gives it: its switches."""
        known = GIVEN | self.tokens.keys() | set(NAMED) | _environment().globals.keys()
        return tuple(sorted(find_undeclared_variables(self._tree) - known))

    @cached_property
    def fields(self) -> tuple[str, ...]:
        """The names of all attributes that it may read, of messages and of whatever else."""
        found = {node.attr for node in self._tree.find_all(nodes.Getattr)}
        found |= {str(node.value) for node in self._tree.find_all(nodes.Const) if str(node.value).isidentifier()}
        return tuple(sorted(found))

    @cached_property
    def _tree(self) -> nodes.Template:
        try:
            return _environment().parse(self.text)
        except TemplateError:  # said where it is rendered
            return _environment().parse("")


class _Generation(Extension):
    """{% generation %}, by which some templates mark what to train on: of no meaning for the text."""

    tags = {"generation"}  # noqa: RUF012 - as jinja declares it

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


@lru_cache(maxsize=1)
def _environment() -> ImmutableSandboxedEnvironment:
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True,
                                                extensions=[_Generation, loopcontrols])
    environment.filters["tojson"] = _to_json
    environment.globals |= {"raise_exception": _raise, "strftime_now": FIXED_DATE.strftime}
    return environment


@lru_cache(maxsize=64)
def _compiled(text: str) -> Template:
    return _environment().from_string(text)


def _to_json(value: Any, ensure_ascii: bool = False, indent: int | None = None, **more: Any) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, **more)  # jinja's own escapes HTML


def _raise(message: str) -> NoReturn:
    raise TemplateError(message)


def _default(template: Any) -> str | None:
    """Of several templates the one for chats: by name, in a mapping, or as a list of names and texts."""
    if isinstance(template, list):
        template = {one["name"]: one["template"] for one in template}
    return template.get("default") if isinstance(template, Mapping) else template


def _content(token: Any) -> str:
    return str(token["content"] if isinstance(token, Mapping) else token)


def _json(path: Path) -> dict[str, Any]:
    content = json.loads(path.read_bytes()) if path.is_file() else {}
    return content if isinstance(content, dict) else {}
