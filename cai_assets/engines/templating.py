"""The one place where a call becomes token ids, for sampling and for training alike.

Guarantee: the text of a row never becomes a control token. The chat template is rendered with private
placeholders instead of the contents; control tokens are read only from what the template itself wrote, and
everything between them, contents included, is encoded as ordinary text. For harmless contents the ids are
those of the model's own chat template. What that has no place for is adapted (``chat_family.py``).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from cai_assets.engines import chat_family, thinking, thoughts
from cai_assets.engines.chat_template import ChatTemplate
from cai_assets.engines.protocol import Call, Message

HUMAN = "\n\nHuman:"
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
    """Encodes calls, chats and training examples with one tokenizer, and tells thoughts from answers.

    ``mode``: whether the model thinks, as in ``ModelIdentity.thinking``; '' and 'off' are the same.
    """

    def __init__(self, tokenizer: Any, mode: str = "") -> None:
        self.tokenizer = tokenizer
        self.template = ChatTemplate.of(tokenizer)
        self.framed = self.template.framed
        self.family = chat_family.read(self.template)
        self.thinking = thinking.read(self.template)
        self.keeps_thoughts = mode not in {"", "off"}
        self.switch = self.thinking.switch(mode) if self.thinking else thinking.Switch()
        added = tokenizer.added_tokens_decoder.items()
        self._control = {t.content: i for i, t in added if t.special or t.content.strip()}
        literals = sorted(self._control, key=len, reverse=True)
        self._literal = re.compile("|".join(map(re.escape, literals)) or r"(?!)")

    def encode(self, call: Call) -> list[int]:
        """Prompt ids of a call. Raise ValueError if the template refuses the messages or nothing is left."""
        if call.style == "chat":
            ids = self.encode_chat(call.messages)
        else:
            ids = self.beginning + self._ordinary("\n\n".join(m["content"] for m in call.messages))
        if len(ids) <= (call.style == "plain") * len(self.beginning):
            raise ValueError("the prompt is empty")
        return ids

    def encode_within(self, call: Call, context: int, thought: str | None = None) -> list[int]:
        """Like ``encode``, with a thought that is already written; raise ValueError if the prompt and all new tokens
        exceed ``context`` tokens."""
        ids = self.encode(call) + ([] if thought is None else self.encode_thought(call.messages, thought))
        new = call.sampling.max_tokens if call.sampling else 1
        if len(ids) + new > context:
            raise ValueError(f"prompt of {len(ids)} tokens and {new} new ones exceed max_model_len {context}; "
                             "shorten the prompt or raise engine.max_model_len")
        return ids

    def encode_chat(self, messages: Sequence[Message], add_generation_prompt: bool = True) -> list[int]:
        """Ids of a chat; a last message by the assistant is left open, to be continued."""
        unfinished = messages[-1]["role"] == "assistant"
        if not unfinished:
            parts = self._render(messages, add_generation_prompt)
        elif self.family.last == "taken":
            parts = self._render(messages, False)
            parts = parts[: _last_content(parts) + 1]
        else:
            begun = self._render(messages[:-1], True)
            parts = [*begun, (self._closed(begun), False), (messages[-1]["content"].strip(), True)]
        return (self.beginning if self.framed else []) + self._encode_parts(parts)

    def adapted(self, call: Call) -> tuple[str, ...]:
        """How the messages of a call differ from what they say, and why."""
        return self.family.adapted(call.messages) if call.style == "chat" else ()

    def encode_response(
        self, messages: Sequence[Message], response: str, thought: str = ""
    ) -> tuple[list[int], list[int]]:
        """Prompt ids as in sampling, and the ids of the response up to and with its end-of-turn token.

        An empty thought that the template writes before the response belongs to the prompt: it is nothing to learn.
        Where there is a ``thought``, its own ids (``encode_thought``) stand between the two.
        """
        lead, tail = self._around_response(messages)
        lead = "" if thought else lead
        if not lead.strip() and response.startswith(lead):
            lead = ""
        given, lead = (lead, "") if self.thinking and self.thinking.end.strip() in lead else ("", lead)
        ids = self._encode_parts([(lead, False), (response, True), (tail, False)])
        return self.encode_chat(messages) + self._encode_parts([(given, False)]), self._ended(ids)

    def encode_text(self, text: str) -> list[int]:
        """Ids of a text by itself, outside of any chat, with the token that ends a text."""
        return [*self.beginning, *self._ordinary(text), self.tokenizer.eos_token_id]

    def encode_thought(self, messages: Sequence[Message], thought: str) -> list[int]:
        """Ids of a thought, and of what stands around it, between the prompt of a chat and its response."""
        if self.thinking is None:
            raise ValueError("the chat template has no place for a thought")
        opened = bool(self._closed(self._render(messages, True)))
        begin = "" if opened else self.thinking.begin
        return self._encode_parts([(begin, False), (thought.strip(), True), (self.thinking.ending, False)])

    def _ended(self, ids: list[int]) -> list[int]:
        return ids if ids[-1] in self.stop_token_ids else [*ids, self.tokenizer.eos_token_id]

    def said(self, call: Call, text: str, thought: str | None = None) -> thoughts.Said:
        """The thought and the answer in what the model wrote, decoded as ``decode_all`` says. ``thought``: of the
        prompt, after which the answer was written."""
        if thought is not None:
            return thoughts.after(thought, self._control_free(text) if self.decode_all else text)
        opened = call.style == "chat" and call.messages[-1]["role"] != "assistant" and bool(
            self._closed(self._render(call.messages, True)))
        begin, end = (self.thinking.begin, self.thinking.end) if self.thinking else thoughts.TAGS
        state, thought, answer = thoughts.split(text, begin, end, opened=opened, anywhere=self.thinking is not None)
        if not self.decode_all:
            return thoughts.Said(state, thought, answer)
        return thoughts.Said(state, self._control_free(thought), self._control_free(answer))

    @cached_property
    def decode_all(self) -> bool:
        """Whether what a model wrote must be decoded with its control tokens, because they part thought and answer."""
        found = self._literal.findall(self.thinking.begin + self.thinking.end) if self.thinking else []
        special = set(self.tokenizer.all_special_tokens) | {
            t.content for t in self.tokenizer.added_tokens_decoder.values() if t.special}
        return any(literal in special for literal in found)

    def _control_free(self, text: str) -> str:
        return self._literal.sub("", text).strip()

    def _closed(self, begun: Sequence[Part]) -> str:
        """What ends the thought that a prompt has begun; '' if it has not."""
        text = "".join(part for part, is_content in begun[-1:] if not is_content)
        opened = self.thinking and self.thinking.begin.strip() and text.rstrip().endswith(self.thinking.begin.strip())
        return self.thinking.ending if self.thinking and opened else ""

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
    def padding(self) -> str | None:
        """A special token to pad with that does not end a turn; None if there is none.

        A reward model scores the last token that is not padding: it would never see an end of turn that pads.
        """
        tokens = self.tokenizer
        for token in (tokens.pad_token, tokens.unk_token, tokens.bos_token, *tokens.all_special_tokens):
            if token is not None and tokens.convert_tokens_to_ids(token) not in self.stop_token_ids:
                return str(token)
        return None

    @cached_property
    def beginning(self) -> list[int]:
        """What the tokenizer itself puts before a text."""
        bos = self.tokenizer.bos_token_id
        return [bos] if bos is not None and self.tokenizer("x").input_ids[:1] == [bos] else []

    def _around_response(self, messages: Sequence[Message]) -> tuple[str, str]:
        """What the template writes between the generation prompt and a response, and after it up to the end of turn."""
        asked = "".join(t for t, _ in self._render(messages, True, keep_marks=True))
        after: list[Message] = [{"role": "assistant", "content": "x"}]
        if self.family.last != "taken":  # it shows how a turn ends only where another follows
            after.append({"role": "user", "content": "x"})
        parts = self._render([*messages, *after], False, keep_marks=True)
        at = [i for i, (_, is_content) in enumerate(parts) if is_content][-len(after)]
        before = "".join(t for t, _ in parts[:at])
        tail = parts[at + 1][0] if at + 1 < len(parts) else ""
        end = self._literal.search(tail)
        lead = before.removeprefix(asked) if before.startswith(asked) else self._closed([(asked, False)])
        return lead, tail[: end.end()] if end else ""

    def _render(self, messages: Sequence[Message], prompt: bool, keep_marks: bool = False) -> list[Part]:
        """Render with placeholders. Whitespace around a content passes through the template, which may trim it."""
        taken = self.family.taken(messages)
        marked = [{"role": m["role"], "content": self.family.content(_mark(i, m["content"]))}
                  for i, m in enumerate(taken)]
        text = self.template.render(marked, prompt=prompt, **self.switch.variables)
        pieces = MARK.split(text + self.switch.lead if prompt else text)
        if lost := [m["role"] for i, m in enumerate(taken) if str(i) not in pieces[1::2]]:
            raise ValueError(f"the chat template leaves out a turn of the {lost[0]} of this chat")
        return [
            (piece if i % 2 == 0 or keep_marks else taken[int(piece)]["content"].strip(), i % 2 == 1)
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
    return f"{lead}{chat_family.mark(index)}{content[len(lead) + len(core) :]}"


def _last_content(parts: Sequence[Part]) -> int:
    return max(i for i, (_, is_content) in enumerate(parts) if is_content)
