"""What an OpenAI-compatible server replied, read as untrusted text into a result."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Iterable, Sequence
from typing import Annotated, Any

import msgspec

from cai_assets.engines.protocol import Request, Result
from cai_assets.engines.thoughts import UNCLOSED
from cai_assets.errors import CaiError
from cai_assets.store.answers import ROUNDING, STAND_IN, no_answer

EXCERPT = 200
READ = 4096  # of a bad reply: far more than is shown, so that no credential is cut in two before it is hidden
Count = Annotated[int, msgspec.Meta(ge=0, lt=2**31)]  # as the row store keeps it


class Unusable(CaiError):
    """An unusable reply, or none; a retry may succeed.

    ``wait``: seconds that the server asks to wait; ``gone``: as if no server were there, rather than a bad reply;
    ``busy``: for lack of room or time, as fewer calls at once may mend; ``full``: turned away unread (status 429).
    """

    def __init__(self, reason: str, *, wait: float = 0.0, gone: bool = False, busy: bool = False, full: bool = False
                 ) -> None:
        super().__init__(reason)
        self.wait, self.gone, self.busy, self.full = wait, gone, busy, full


class _Top(msgspec.Struct):
    token: str
    logprob: float


class _Position(msgspec.Struct):
    top_logprobs: list[_Top]


class _Logprobs(msgspec.Struct):
    content: list[_Position] | None = None
    top_logprobs: list[dict[str, float] | None] | None = None

    def listed(self) -> Iterable[tuple[str, float]]:
        """The likeliest first tokens with their log-probabilities."""
        if self.content:
            return [(t.token, t.logprob) for t in self.content[0].top_logprobs]
        return (self.top_logprobs[0] or {}).items() if self.top_logprobs else ()


class _Part(msgspec.Struct):
    type: str
    text: str = ""
    thinking: object = None


class _Said(msgspec.Struct):
    content: str | list[_Part] | None = None
    reasoning_content: object = None
    reasoning: object = None

    @property
    def answer(self) -> str | None:
        """The content alone: of its parts the texts, without any reasoning."""
        if not isinstance(self.content, list):
            return self.content
        return "".join(part.text for part in self.content if part.type == "text")

    @property
    def thought(self) -> str:
        """The reasoning beside the content, as far as it is text."""
        parts = self.content if isinstance(self.content, list) else []
        found = [self.reasoning_content or self.reasoning,
                 *(part.thinking or part.text for part in parts if part.type != "text")]
        return "\n\n".join(text.strip() for text in found if isinstance(text, str) and text.strip())

    @property
    def reasoned(self) -> bool:
        return bool(self.reasoning_content or self.reasoning or isinstance(self.content, list))


class _Choice(msgspec.Struct):
    finish_reason: str
    text: str | None = None
    message: _Said | None = None
    logprobs: _Logprobs | None = None


class _Usage(msgspec.Struct):
    prompt_tokens: Count = 0
    completion_tokens: Count = 0


class _Reply(msgspec.Struct):
    model: str
    choices: Annotated[list[_Choice], msgspec.Meta(min_length=1)]
    usage: _Usage | None = None


_decode = msgspec.json.Decoder(_Reply).decode


def read_reply(request: Request, body: bytes, served: Collection[str], names: Sequence[str]) -> Result:
    """The result in a reply's body. ``served``: the names by which the model asked may answer, its own first;
    ``names``: for each answer the name that its first token may have in the reply. ``thought``: what the server itself
    told apart from the answer.

    Raise Unusable (a retry may succeed) or ValueError (the row cannot be served).
    """
    reply = _read(body)
    if reply.model not in served:
        raise Unusable(f"the server answered as model {reply.model[:EXCERPT]!r}, asked was {next(iter(served))!r}; if "
                       "that is the same model, name it in its setting served_as")
    choice, usage = reply.choices[0], reply.usage or _Usage()
    counts: dict[str, Any] = {"prompt_tokens": usage.prompt_tokens, "completion_tokens": usage.completion_tokens}
    if request.call.sampling is None:
        logprobs = _answer_logprobs(choice.logprobs, names, request.call.answers)
        return Result(row_key=request.row_key, finish="score", logprobs=logprobs, **counts)
    text = choice.message.answer if choice.message else choice.text
    if not text and (why := _why_empty(choice)):
        raise ValueError(why)
    if text is None:
        raise Unusable(f"malformed reply (no text): {_excerpt(body)!r}")
    counts["thought"] = choice.message.thought if choice.message else ""
    if choice.finish_reason == "stop":
        return Result(row_key=request.row_key, text=text, finish="stop", **counts)
    if choice.finish_reason == "length":
        return Result(row_key=request.row_key, text=text, finish="length", **counts)
    raise ValueError(f"the server ended the row with {choice.finish_reason[:EXCERPT]!r}")


def _why_empty(choice: _Choice) -> str | None:
    """Why a reply without text would be without it again; None if it need not."""
    if choice.finish_reason == "length":
        return (f"{UNCLOSED}: the server spent all tokens before the answer began, as models that reason do; raise the "
                "setting that allows them (generation.max_tokens, evaluation.max_tokens, labels.thought_tokens, a "
                "model's answer_tokens), or switch reasoning off at the server")
    if choice.message and choice.message.reasoned:
        return "the server sent its reasoning and no answer; switch reasoning off at the server"
    return None


def _read(body: bytes) -> _Reply:
    try:
        if b"NaN" in body or b"Infinity" in body:  # no JSON, but what servers write for log-probabilities
            return msgspec.convert(json.loads(body), _Reply)
        return _decode(body)
    except (ValueError, RecursionError) as e:
        raise Unusable(f"malformed reply ({e}): {_excerpt(body)!r}") from None


def _excerpt(body: bytes) -> str:
    return body[:READ].decode(errors="replace")


def _answer_logprobs(logprobs: _Logprobs | None, names: Sequence[str], answers: Sequence[str]) -> tuple[float, ...]:
    """Sum the probability of every listed token that is the answer up to white space around it."""
    listed = [(token.strip(), p) for token, p in logprobs.listed()] if logprobs else []
    if not listed:
        raise Unusable("the reply has no logprobs: the server does not support them for this model, or ignores them")
    out = []
    for name, answer in zip(names, answers, strict=True):
        own = [p for token, p in listed if token in (name, answer.strip()) and not p < STAND_IN]
        if why := no_answer(own):
            raise Unusable(f"the server scored answer {answer!r} wrongly: {why}")
        mass = math.fsum(map(math.exp, own))
        if mass <= 0:
            raise ValueError(f"answer {answer!r} is not among the {len(listed)} likeliest tokens: the row is ungraded")
        out.append(math.log(mass))
    if (total := math.fsum(map(math.exp, out))) > 1 + ROUNDING:
        raise Unusable(f"the server scored the answers wrongly: their probabilities add up to {total:g}")
    return tuple(out)
