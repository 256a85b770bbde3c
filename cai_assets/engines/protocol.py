"""What every engine takes and gives.

An engine turns requests into results, one to one, in any order, as they finish. A request that cannot be
served comes back as a result with an ``error``; it never fails its neighbors and is never stored.
An engine whose attribute ``flows`` is true may find NOT_YET among its requests: more will be ready when it has yielded
another result. Others are given what is ready, and called again. One whose attribute ``aside`` is true too has its work
done elsewhere, so that it may run in a thread beside other engines; ``wake`` makes it look at once for more requests,
or raise what it is given.
``servers``: how fast each server of an engine that has some has answered, in words, by address.
Two kinds of request: *generate* (``sampling`` set) and *score* (``answers`` set), which reads the exact
log-probability that the next token starts each answer, and decodes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Literal, Protocol, runtime_checkable

from pydantic import BaseModel, ConfigDict, Field, model_validator
from typing_extensions import TypedDict

Style = Literal["chat", "plain"]
Role = Literal["system", "user", "assistant"]


class Message(TypedDict):
    role: Role
    content: str


class Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Sampling(Frozen):
    """Settings that decide a sample. Lesson defaults: temperature 0.7, 256 new tokens."""

    temperature: float = Field(default=0.7, ge=0, le=10)
    top_p: float = Field(default=1.0, gt=0, le=1)
    max_tokens: int = Field(default=256, ge=1)
    stop: tuple[str, ...] = ()


class Sampled(Frozen):
    """How scoring calls are answered without log-probabilities: by the shares of so many sampled replies."""

    samples: int = Field(ge=2, le=1024)
    max_tokens: int = Field(ge=1)


class ModelIdentity(Frozen):
    """Whatever about a model can change an output. It enters every row key; paths and names do not.

    ``sampled`` enters the keys of scoring calls alone, so it stays out of the dump that enters all others.
    ``arguments``: those of ``engine.vllm`` that change numbers, as canonical JSON; without any, keys are without it.
    ``thinking``: what a model that thinks is told: 'off', 'keep', or 'budget:N' tokens. Empty, and then no part of a
    key, where nothing has to be told.
    """

    weights: str
    tokenizer: str
    template: str
    dtype: str = ""
    thinking: str = Field(default="", exclude_if=lambda value: not value)
    sampled: Sampled | None = Field(default=None, exclude=True)
    arguments: str = Field(default="", exclude_if=lambda value: not value)

    @property
    def keeps_thoughts(self) -> bool:
        """Whether its results tell thoughts from answers."""
        return self.thinking not in {"", "off"}


class Call(Frozen):
    """A request before it has a key.

    ``style='chat'`` renders ``messages`` with the model's chat template; a last message by the assistant is
    continued. ``style='plain'`` joins the contents and continues the text (no template, no control tokens).
    """

    messages: tuple[Message, ...] = Field(min_length=1)
    style: Style = "chat"
    sampling: Sampling | None = None
    answers: tuple[str, ...] = ()
    sample: int = Field(default=0, ge=0)

    @model_validator(mode="after")
    def _one_kind(self) -> Call:
        if (self.sampling is None) == (not self.answers):
            raise ValueError("a call either generates (sampling) or scores (answers)")
        return self


class Request(Frozen):
    """A call with its row key and the seed derived from it.

    ``only_thought``: the thought alone is wanted, as the result's text, ended or not; ``thought``: it is written, and
    the answer after it is wanted (``engines/budget.py``).
    """

    row_key: str
    seed: int = Field(ge=0, lt=2**31)
    call: Call
    only_thought: bool = False
    thought: str | None = None


class Result(Frozen):
    """An engine's answer to a request. ``logprobs`` has one natural-log probability per answer of a scoring call.

    ``finish``: 'stop', 'length' (cut by max_tokens), 'score', or 'sampled', whose ``logprobs`` are shares of sampled
    replies and whose ``text`` counts them; empty when ``error`` is set. ``refused``: with an error, that the same
    request would be refused again, as one that is too long: asking again does not help. ``adapted``: what a server made
    the engine say in another way or leave out, each with the server's reason. ``thought``: what came before the answer,
    and ``thought_state`` what became of it; both empty unless thoughts are kept.
    """

    row_key: str
    text: str = ""
    finish: Literal["stop", "length", "score", "sampled", ""] = ""
    logprobs: tuple[float, ...] = ()
    prompt_tokens: int = 0
    completion_tokens: int = 0
    error: str | None = None
    refused: bool = False
    adapted: tuple[str, ...] = ()
    thought: str = ""
    thought_state: Literal["", "none", "valid", "empty", "repeated"] = ""


NOT_YET = Request(row_key="not yet", seed=0, call=Call(messages=({"role": "user", "content": ""},), answers=("A",)))


@runtime_checkable
class Engine(Protocol):
    """A model ready to serve. Construction is cheap: weights load at the first ``run``."""

    @property
    def identity(self) -> ModelIdentity: ...

    def run(self, requests: Iterable[Request]) -> Iterator[Result]:
        """Yield exactly one result for each request. Raise only when the whole engine is lost."""
        ...

    def close(self) -> None:
        """Free all memory. The next ``run`` loads the model again."""
        ...


def flows(engine: Engine) -> bool:
    """Whether it may find NOT_YET among its requests."""
    return bool(getattr(engine, "flows", False))


def aside(engine: Engine) -> bool:
    """Whether it may run in a thread beside others."""
    return flows(engine) and bool(getattr(engine, "aside", False))


def wake(engine: Engine, end: Exception | None = None) -> None:
    """Make one that is ``aside``, and may be running in another thread, look for more requests; or end it so."""
    engine.wake(end)  # type: ignore[attr-defined]


def servers(engine: Engine) -> Mapping[str, str]:
    """How fast each of its servers has answered, by address; none if it has none, or does not say."""
    found: Mapping[str, str] = getattr(engine, "servers", {})
    return found
