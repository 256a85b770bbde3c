"""An engine for tests of logic: its text encodes its whole input, so a stale reuse shows itself."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from cai_assets.engines.protocol import ModelIdentity, Request, Result
from cai_assets.store.canonical import tagged_hash


class Oracle:
    """Counts calls; fails the requests for which ``fails`` is true; dies after ``dies_after`` results."""

    def __init__(self, weights: str = "oracle", *, fails: Callable[[Request], bool] = lambda _: False,
                 dies_after: int | None = None) -> None:
        self.identity = ModelIdentity(weights=weights, tokenizer="t", template="c")
        self.fails, self.dies_after = fails, dies_after
        self.calls: list[Request] = []

    def text(self, request: Request) -> str:
        return tagged_hash("says", [self.identity.weights, request.call.model_dump(mode="json"), request.seed])

    def run(self, requests: Iterable[Request]) -> Iterator[Result]:
        for n, request in enumerate(requests):
            if self.dies_after is not None and n >= self.dies_after:
                raise RuntimeError("the engine died")
            self.calls.append(request)
            if self.fails(request):
                yield Result(row_key=request.row_key, error="failed on purpose")
            elif request.call.answers:
                lean = request.seed / 2**28  # 0 to 8
                yield Result(row_key=request.row_key, finish="score", logprobs=(-lean, lean - 8), prompt_tokens=5)
            else:
                yield Result(row_key=request.row_key, text=self.text(request), finish="stop", prompt_tokens=5,
                             completion_tokens=3)

    def close(self) -> None:
        pass
