"""The one place where a call becomes token ids, for sampling and for training alike.

Guarantee: the text of a row never becomes a control token. The chat template is rendered with private
placeholders instead of the contents; control tokens are read only from what the template itself wrote, and
everything between them, contents included, is encoded as ordinary text. For harmless contents the ids are
those of the model's own chat template. Dates that a template asks for are fixed: a prompt must not depend on the day.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from cai_assets.engines.protocol import Call, Message

HUMAN = "\n\nHuman:"
# The dialogue frame of Bai et al. 2022, for models that come without a chat template.
FRAME = (
    "{% for m in messages %}{% if m.role == 'system' %}{{ m.content }}{% else %}"
    "{{ '\n\nHuman: ' if m.role == 'user' else '\n\nAssistant: ' }}{{ m.content }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '\n\nAssistant:' }}{% endif %}"
)
FIXED_DATE = datetime(2024, 7, 26, tzinfo=UTC)
MARK = re.compile("\ue000(\\d+)\ue001")
LOOK_ALIKE = re.compile(
    r"<(?=[|｜])|<(?=/?(?:s|bos|eos|unk|pad|mask|think|start_of_turn|end_of_turn)>)|<(?=</?SYS>>)"
    r"|\[(?=/?(?:INST|SYSTEM_PROMPT|AVAILABLE_TOOLS|TOOL_CALLS|TOOL_RESULTS|TOOL_CONTENT|gMASK)\])",
    re.IGNORECASE,
)

Part = tuple[str, bool]
"""A stretch of text and whether it is a row's content (True) or written by the template (False)."""


def neutralize(text: str) -> str:
    """Break what looks like a control token with U+2060, for servers whose template we do not control."""
    return LOOK_ALIKE.sub(lambda m: m.group() + "\u2060", text)


def load_tokenizer(path: Path) -> Any:
    """Load the tokenizer of a local model folder; nothing is fetched and none of the model's code is run."""
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(str(path), local_files_only=True)


class Templater:
    """Encodes calls, chats and training examples with one tokenizer."""

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        self.framed = not tokenizer.chat_template
        added = tokenizer.added_tokens_decoder.items()
        self._control = {t.content: i for i, t in added if t.special or t.content.strip()}
        literals = sorted(self._control, key=len, reverse=True)
        self._literal = re.compile("|".join(map(re.escape, literals)) or r"(?!)")

    def encode(self, call: Call) -> list[int]:
        """Prompt ids of a call. Raise ValueError if the template refuses the messages or nothing is left."""
        if call.style == "chat":
            ids = self.encode_chat(call.messages)
        else:
            ids = self._beginning + self._ordinary("\n\n".join(m["content"] for m in call.messages))
        if len(ids) <= (call.style == "plain") * len(self._beginning):
            raise ValueError("the prompt is empty")
        return ids

    def encode_within(self, call: Call, context: int) -> list[int]:
        """Like ``encode``; raise ValueError if the prompt and all new tokens exceed ``context`` tokens."""
        ids = self.encode(call)
        new = call.sampling.max_tokens if call.sampling else 1
        if len(ids) + new > context:
            raise ValueError(f"prompt of {len(ids)} tokens and {new} new ones exceed max_model_len {context}; "
                             "shorten the prompt or raise engine.max_model_len")
        return ids

    def encode_chat(self, messages: Sequence[Message], add_generation_prompt: bool = True) -> list[int]:
        """Ids of a chat; a last message by the assistant is left open, to be continued."""
        unfinished = messages[-1]["role"] == "assistant"
        parts = self._render(messages, add_generation_prompt and not unfinished)
        if unfinished:
            parts = parts[: _last_content(parts) + 1]
        return (self._beginning if self.framed else []) + self._encode_parts(parts)

    def encode_response(self, messages: Sequence[Message], response: str) -> tuple[list[int], list[int]]:
        """Prompt ids as in sampling, and the ids of the response up to and with its end-of-turn token."""
        lead, tail = self._around_response(messages)
        if not lead.strip() and response.startswith(lead):
            lead = ""
        ids = self._encode_parts([(lead, False), (response, True), (tail, False)])
        if ids[-1] not in self.stop_token_ids:
            ids.append(self.tokenizer.eos_token_id)
        return self.encode_chat(messages), ids

    def answer_tokens(self, answers: Sequence[str]) -> tuple[int, ...]:
        """The first token of each answer. Raise ValueError unless they are distinct."""
        firsts = [(self._ordinary(a) or [-1])[0] for a in answers]
        if len(set(firsts)) < len(firsts) or -1 in firsts:
            raise ValueError(f"answers {list(answers)} share a first token; reword them, such as 'A' and 'B'")
        return tuple(firsts)

    def stops(self, call: Call) -> tuple[str, ...]:
        """Strings that end the text, besides the stop tokens."""
        own = call.sampling.stop if call.sampling else ()
        return (*own, HUMAN) if self.framed and call.style == "chat" and HUMAN not in own else own

    @cached_property
    def stop_token_ids(self) -> tuple[int, ...]:
        """The tokenizer's end of text and the template's end of turn."""
        _, tail = self._around_response([{"role": "user", "content": "x"}])
        found = self._literal.search(tail)
        ids = {self.tokenizer.eos_token_id, self._control[found.group()] if found else None}
        return tuple(sorted(i for i in ids if i is not None))

    @cached_property
    def _beginning(self) -> list[int]:
        bos = self.tokenizer.bos_token_id
        return [bos] if bos is not None and self.tokenizer("x").input_ids[:1] == [bos] else []

    def _around_response(self, messages: Sequence[Message]) -> tuple[str, str]:
        """What the template writes between the generation prompt and a response, and after it up to the end of turn."""
        asked = "".join(t for t, _ in self._render(messages, True, keep_marks=True))
        parts = self._render([*messages, {"role": "assistant", "content": "x"}], False, keep_marks=True)
        at = _last_content(parts)
        before = "".join(t for t, _ in parts[:at])
        tail = "".join(t for t, _ in parts[at + 1 :])
        end = self._literal.search(tail)
        return before.removeprefix(asked) if before.startswith(asked) else "", tail[: end.end()] if end else ""

    def _render(self, messages: Sequence[Message], prompt: bool, keep_marks: bool = False) -> list[Part]:
        """Render with placeholders. Whitespace around a content passes through the template, which may trim it."""
        marked = [{"role": m["role"], "content": _mark(i, m["content"])} for i, m in enumerate(messages)]
        try:
            text = self.tokenizer.apply_chat_template(
                marked,
                tokenize=False,
                add_generation_prompt=prompt,
                chat_template=FRAME if self.framed else None,
                strftime_now=FIXED_DATE.strftime,
            )
        except Exception as e:
            raise ValueError(f"the chat template refuses these messages: {e}") from e
        pieces = MARK.split(text)
        return [
            (piece if i % 2 == 0 or keep_marks else messages[int(piece)]["content"].strip(), i % 2 == 1)
            for i, piece in enumerate(pieces)
        ]

    def _encode_parts(self, parts: Sequence[Part]) -> list[int]:
        ids: list[int] = []
        run = ""
        for text, is_content in parts:
            position = 0
            for found in () if is_content else self._literal.finditer(text):
                ids += self._ordinary(run + text[position : found.start()])
                ids.append(self._control[found.group()])
                run, position = "", found.end()
            run += text[position:]
        return ids + self._ordinary(run)

    def _ordinary(self, text: str) -> list[int]:
        """Encode text so that no control token comes out: a look-alike is cut after its first character."""
        ids: list[int] = []
        start = 0
        for found in self._literal.finditer(text):
            ids += self._plain_ids(text[start : found.start() + 1])
            start = found.start() + 1
        return ids + self._plain_ids(text[start:])

    def _plain_ids(self, text: str) -> list[int]:
        try:
            ids = self.tokenizer.encode(text, add_special_tokens=False, split_special_tokens=True) if text else []
        except (TypeError, UnicodeError) as e:
            raise ValueError(f"text that is not valid Unicode cannot be encoded: {e}") from e
        return list(ids)


def _mark(index: int, content: str) -> str:
    core = content.strip()
    lead = content[: len(content) - len(content.lstrip())] if core else ""
    return f"{lead}\ue000{index}\ue001{content[len(lead) + len(core) :]}"


def _last_content(parts: Sequence[Part]) -> int:
    return max(i for i, (_, is_content) in enumerate(parts) if is_content)
