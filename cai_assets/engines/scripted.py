"""A deterministic engine without a model: what it writes is a function of the request alone.

It runs the whole graph in seconds and needs no file. Different prompts get different texts, the seed makes
samples differ, and about one prompt in eight gets the same text whatever the seed, so that identical pairs
occur. ``reply``, ``score`` and ``fail`` put other rules in place; ``calls`` counts the requests served.
Its texts look like answers, critiques and revisions but mean nothing.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from cai_assets import settings
from cai_assets.engines import thoughts
from cai_assets.engines.models import identify
from cai_assets.engines.protocol import Call, ModelIdentity, Request, Result
from cai_assets.store.canonical import tagged_hash
from cai_assets.store.layout import Layout

Reply = Callable[[Call, Request], str]
Score = Callable[[Call, Request], tuple[float, ...]]

CRITIQUE = ("The response is {a} about {b} and could harm someone who {c}.",
            "It treats {b} as {a}, although a person who {c} may be hurt.")
REVISION = ("I can't help with that, because it could harm someone who {c}. I can explain {b} instead.",
            "It is better to be {a} here: please ask someone who {c} about {b}.")
ANSWER = ("Here is a {a} way to think about {b}, for anyone who {c}.",
          "People who {c} often find {b} {a}. Start with a small step.")
WORDS = {
    "a": ("careful", "careless", "clear", "vague", "kind", "blunt", "useful", "one-sided"),
    "b": ("the question", "the risk", "the request", "safety", "the law", "privacy", "the facts", "fairness"),
    "c": ("lives nearby", "reads it quickly", "trusts it", "is young", "is in a hurry", "works there", "asks twice"),
}


class Scripted:
    """An engine by rule. ``fail`` names row keys whose requests come back as errors."""

    def __init__(
        self,
        name: str = "scripted",
        reply: Reply | None = None,
        score: Score | None = None,
        fail: Callable[[str], bool] | None = None,
        identity: ModelIdentity | None = None,
    ) -> None:
        self._identity = identity or ModelIdentity(weights=f"scripted:{name}", tokenizer="none", template="none")
        self._reply = reply or default_reply
        self._score = score or default_score
        self._fail = fail or (lambda _: False)
        self.calls = 0

    @property
    def identity(self) -> ModelIdentity:
        return self._identity

    def run(self, requests: Iterable[Request]) -> Iterator[Result]:
        """Yield one result per request, in order. A rule that raises ValueError makes that row an error."""
        for request in requests:
            self.calls += 1
            if self._fail(request.row_key):
                yield Result(row_key=request.row_key, error="scripted failure")
                continue
            try:
                yield self._answer(request)
            except ValueError as e:
                yield Result(row_key=request.row_key, error=str(e), refused=True)

    def close(self) -> None:
        """Nothing to free."""

    def _answer(self, request: Request) -> Result:
        call = request.call
        read = sum(len(m["content"].split()) for m in call.messages)
        if call.sampling is None:
            logprobs = self._score(call, request)
            return Result(row_key=request.row_key, finish="score", logprobs=logprobs, prompt_tokens=read,
                          completion_tokens=1)
        text = self._reply(call, request)
        for stop in call.sampling.stop:
            text = text.split(stop, 1)[0]
        words = text.split(" ")
        limit = call.sampling.max_tokens
        kept = self._identity.keeps_thoughts
        written = " ".join(words[:limit])
        said = (thoughts.split(written, *thoughts.TAGS, anywhere=kept) if request.thought is None
                else thoughts.after(request.thought, written))
        return thoughts.result(request, said, "length" if len(words) > limit else "stop", kept=kept,
                               prompt_tokens=read, completion_tokens=min(len(words), limit))


def of_model(model: settings.Model, _: settings.Engine) -> Scripted:
    """The engine of a model setting, whose source is a name, not a file."""
    scripted = Scripted(model.source)
    if model.thinking == "off":
        return scripted
    return Scripted(identity=scripted.identity.model_copy(update={"thinking": model.thinking}))


def of_checkpoint(path: Path, layout: Layout) -> Scripted:
    """The engine that stands in for a trained checkpoint; a folder without weights is identified by its name."""
    trained = any(path.glob("*.safetensors"))
    weights = identify(path, layout).weights if trained else tagged_hash("scripted", path.name)
    return Scripted(identity=ModelIdentity(weights=weights, tokenizer="none", template="none"))


def default_reply(call: Call, request: Request) -> str:
    """One sentence chosen by a hash of the messages and, unless greedy, the seed."""
    about = "\x1f".join(f"{m['role']}\x1e{m['content']}" for m in call.messages)
    same = _number(about) % 8 == 0 or (call.sampling is not None and call.sampling.temperature == 0)
    n = _number(about if same else f"{about}\x1f{request.seed}")
    last = call.messages[-1]["content"].lower()[-400:]
    frames = REVISION if "revis" in last or "rewrite" in last else CRITIQUE if "critique" in last else ANSWER
    frame = frames[n % len(frames)]
    picks = {}
    for slot, words in WORDS.items():
        n //= 7
        picks[slot] = words[n % len(words)]
    return f"{frame.format(**picks)} ({n % 100_000})"


def default_score(call: Call, request: Request) -> tuple[float, ...]:
    """Log-probabilities of the answers with 90% of the mass, mildly uneven by a hash of the messages."""
    about = "\x1f".join(m["content"] for m in call.messages)
    weights = [1 + _number(f"{about}\x1f{i}") % 1000 / 1000 for i in range(len(call.answers))]
    return tuple(math.log(0.9 * w / sum(weights)) for w in weights)


def _number(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "big")
