"""What an OpenAI-compatible server replied, read as untrusted text into a result."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence

from pydantic import BaseModel, Field, ValidationError

from cai_assets.engines.protocol import Request, Result
from cai_assets.errors import CaiError
from cai_assets.store.answers import ROUNDING, STAND_IN, no_answer

EXCERPT = 200


class Unusable(CaiError):
    """An unusable reply; a retry may succeed."""

    def __init__(self, reason: str, wait: float = 0.0) -> None:
        super().__init__(reason)
        self.wait = wait


class _Top(BaseModel):
    token: str
    logprob: float


class _Position(BaseModel):
    top_logprobs: list[_Top]


class _Logprobs(BaseModel):
    content: list[_Position] | None = None
    top_logprobs: list[dict[str, float]] | None = None


class _Said(BaseModel):
    content: str


class _Choice(BaseModel):
    finish_reason: str
    text: str | None = None
    message: _Said | None = None
    logprobs: _Logprobs | None = None


class _Usage(BaseModel):
    prompt_tokens: int = 0
    completion_tokens: int = 0


class _Reply(BaseModel):
    model: str
    choices: list[_Choice] = Field(min_length=1)
    usage: _Usage | None = None


def read_reply(request: Request, body: str, served: Collection[str], names: Sequence[str]) -> Result:
    """The result in a reply's body. ``served``: the names by which the model asked may answer; ``names``: for each
    answer the name that its first token may have in the reply.

    Raise Unusable (a retry may succeed) or ValueError (the row cannot be served).
    """
    try:
        reply = _Reply.model_validate_json(body)
    except ValidationError as e:
        where = "; ".join(f"{'.'.join(map(str, x['loc'])) or 'body'}: {x['msg']}" for x in e.errors()[:3])
        raise Unusable(f"malformed reply ({where}): {body[:EXCERPT]!r}") from None
    if reply.model not in served:
        raise Unusable(f"the server answered as model {reply.model[:EXCERPT]!r}, asked was {next(iter(served))!r}; if "
                       "that is the same model, name it in its setting served_as")
    choice, usage = reply.choices[0], reply.usage or _Usage()
    counts = {"prompt_tokens": usage.prompt_tokens, "completion_tokens": usage.completion_tokens}
    if request.call.sampling is None:
        logprobs = _answer_logprobs(choice.logprobs, names, request.call.answers)
        return Result(row_key=request.row_key, finish="score", logprobs=logprobs, **counts)
    text = choice.message.content if choice.message else choice.text
    if text is None:
        raise Unusable(f"malformed reply (no text): {body[:EXCERPT]!r}")
    if choice.finish_reason == "stop":
        return Result(row_key=request.row_key, text=text, finish="stop", **counts)
    if choice.finish_reason == "length":
        return Result(row_key=request.row_key, text=text, finish="length", **counts)
    raise ValueError(f"the server ended the row with {choice.finish_reason[:EXCERPT]!r}")


def _answer_logprobs(logprobs: _Logprobs | None, names: Sequence[str], answers: Sequence[str]) -> tuple[float, ...]:
    """Sum the probability of every listed token that is the answer up to white space around it."""
    if logprobs and logprobs.content:
        listed = [(t.token, t.logprob) for t in logprobs.content[0].top_logprobs]
    elif logprobs and logprobs.top_logprobs:
        listed = list(logprobs.top_logprobs[0].items())
    else:
        raise Unusable("the reply has no logprobs; the server must support them to score answers")
    out = []
    for name, answer in zip(names, answers, strict=True):
        own = [p for token, p in listed if token.strip() in (name, answer.strip()) and not p < STAND_IN]
        if why := no_answer(own):
            raise Unusable(f"the server scored answer {answer!r} wrongly: {why}")
        mass = math.fsum(map(math.exp, own))
        if mass <= 0:
            raise ValueError(f"answer {answer!r} is not among the {len(listed)} likeliest tokens: the row is ungraded")
        out.append(math.log(mass))
    if (total := math.fsum(map(math.exp, out))) > 1 + ROUNDING:
        raise Unusable(f"the server scored the answers wrongly: their probabilities add up to {total:g}")
    return tuple(out)
