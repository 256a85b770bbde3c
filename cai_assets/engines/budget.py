"""Thoughts of a limited length: a thought is written first, ended where it reaches its budget, and the answer follows.

Two calls in place of one, on any engine: the second goes on from the first one's thought, whose computation an engine
with a prefix cache has kept. So a thought never takes the tokens of its answer, and every thought ends.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice

from cai_assets.engines.around import Around
from cai_assets.engines.protocol import NOT_YET, Engine, Request, Result, Sampling
from cai_assets.engines.thinking import Thinking

AT_ONCE = 512  # requests whose thoughts a crash may lose


class Budgeted(Around):
    """An engine whose model thinks for at most ``tokens`` tokens before each answer."""

    flows = False  # all thoughts of a wave come before its answers

    def __init__(self, engine: Engine, thinking: Thinking, tokens: int) -> None:
        super().__init__(engine)
        self.thinking, self.tokens = thinking, tokens

    def run(self, requests: Iterable[Request]) -> Iterator[Result]:
        """Yield one result for each request; its tokens are those of both calls."""
        ready = (r for r in requests if r is not NOT_YET)
        while some := list(islice(ready, AT_ONCE)):
            thoughts = {r.row_key: r for r in self.engine.run([self._thought(r) for r in some if _thinks(r)])}
            yield from (result for result in thoughts.values() if result.error)
            rest = [r if r.row_key not in thoughts else _goes_on(r, thoughts[r.row_key]) for r in some
                    if r.row_key not in thoughts or not thoughts[r.row_key].error]
            for result in self.engine.run(rest):
                yield _both(thoughts[result.row_key], result) if result.row_key in thoughts else result

    def _thought(self, request: Request) -> Request:
        sampling = request.call.sampling or Sampling()
        limited = sampling.model_copy(update={"max_tokens": self.tokens, "stop": (self.thinking.end.strip(),)})
        return request.model_copy(update={"only_thought": True, "call": request.call.model_copy(update={
            "sampling": limited})})


def _thinks(request: Request) -> bool:
    """Whether a model thinks in this call: it begins an answer to a chat."""
    call = request.call
    return call.sampling is not None and call.style == "chat" and call.messages[-1]["role"] != "assistant"


def _goes_on(request: Request, thought: Result) -> Request:
    """The call of the answer; of a model that did not begin a thought, the whole call."""
    return request if thought.thought_state == "none" else request.model_copy(update={"thought": thought.text})


def _both(thought: Result, answer: Result) -> Result:
    tokens = {name: getattr(thought, name) + getattr(answer, name) for name in ("prompt_tokens", "completion_tokens")}
    return answer.model_copy(update=tokens)
