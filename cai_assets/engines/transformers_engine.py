"""transformers in this process: slower than vLLM, but runs wherever torch does.

Batches are sorted by length and padded on the left. Each row draws from its own generator, seeded by its
request, by inverting the cumulative distribution, so no row's sample depends on its neighbors. In float32 a row
gives the same text alone and in a batch; in bfloat16 padding moves logits by rounding steps (up to 0.3 nats observed)
and often changes a sampled text.
"""

from __future__ import annotations

import gc
import itertools
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from cai_assets import settings
from cai_assets.engines import thoughts
from cai_assets.engines.folder_engine import FolderEngine
from cai_assets.engines.models import EngineLost
from cai_assets.engines.protocol import ModelIdentity, Request, Result, Sampling
from cai_assets.engines.templating import Templater

BATCH = 32
WINDOW = 32 * BATCH

Encoded = tuple[Request, list[int]]


class _Loaded(NamedTuple):
    model: Any
    templater: Templater


class TransformersEngine(FolderEngine):
    """One model folder served by transformers."""

    def __init__(self, path: Path, identity: ModelIdentity, engine: settings.Engine) -> None:
        super().__init__(path, identity, engine)
        self._loaded: _Loaded | None = None

    def run(self, requests: Iterable[Request]) -> Iterator[Result]:
        """Yield one result per request, a window at a time. Raise EngineLost if the model does not load."""
        size = min(BATCH, self.settings.max_num_seqs or BATCH)
        for window in _windows(requests):
            templater = self._load().templater
            rows: list[Encoded] = []
            for request in window:
                try:
                    if request.call.sampling is None:
                        templater.answer_tokens(request.call.answers)
                    rows.append((request, templater.encode_within(request.call, self.context, request.thought)))
                except ValueError as e:
                    yield Result(row_key=request.row_key, error=str(e), refused=True)
            rows.sort(key=lambda r: (r[0].call.sampling is None, len(r[1])))
            for scoring, alike in itertools.groupby(rows, key=lambda r: r[0].call.sampling is None):
                same = list(alike)
                for start in range(0, len(same), size):
                    yield from self._batch(same[start : start + size], scoring)

    def close(self) -> None:
        if self._loaded is None:
            return
        self._loaded = None
        gc.collect()
        import torch

        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def _load(self) -> _Loaded:
        if self._loaded is not None:
            return self._loaded
        import torch
        from transformers import AutoModelForCausalLM
        from transformers.utils import logging

        logging.disable_progress_bar()
        device = "cuda" if torch.cuda.is_available() else "cpu"
        try:
            model = AutoModelForCausalLM.from_pretrained(
                str(self.path), dtype=getattr(torch, self.settings.dtype), local_files_only=True, use_safetensors=True
            )
        except (OSError, ValueError, RuntimeError) as e:
            raise EngineLost(f"transformers cannot load {self.path.name}: {e}") from e
        self._loaded = _Loaded(model.to(device).eval(), self.templater())
        return self._loaded

    def _batch(self, rows: Sequence[Encoded], scoring: bool) -> list[Result]:
        """Serve a batch; on failure (usually memory) halve it, down to the single row that fails."""
        import torch

        try:
            with torch.inference_mode():
                return self._score(rows) if scoring else self._generate(rows)
        except RuntimeError as e:
            if len(rows) == 1:
                return [Result(row_key=rows[0][0].row_key, error=f"{type(e).__name__}: {e}")]
        half = len(rows) // 2
        return [*self._batch(rows[:half], scoring), *self._batch(rows[half:], scoring)]

    def _forward(self, ids: Any, mask: Any, cache: Any) -> tuple[Any, Any]:
        """Float32 logits (rows, vocabulary) of the last position, and the cache."""
        positions = (mask.cumsum(-1) - 1).clamp(min=0)[:, -ids.shape[1] :]
        model = self._load().model
        out = model(input_ids=ids, attention_mask=mask, position_ids=positions, past_key_values=cache, use_cache=True,
                    logits_to_keep=1)
        return out.logits[:, -1].float(), out.past_key_values

    def _pad(self, rows: Sequence[Encoded]) -> tuple[Any, Any]:
        import torch

        longest = max(len(ids) for _, ids in rows)
        device = self._load().model.device
        ids = torch.tensor([[0] * (longest - len(i)) + i for _, i in rows], device=device)
        mask = torch.tensor([[0] * (longest - len(i)) + [1] * len(i) for _, i in rows], device=device)
        return ids, mask

    def _score(self, rows: Sequence[Encoded]) -> list[Result]:
        logits, _ = self._forward(*self._pad(rows), None)
        logprobs = logits.log_softmax(-1).cpu()
        results = []
        for (request, ids), row in zip(rows, logprobs, strict=True):
            templater = self._load().templater
            answers = templater.answer_tokens(request.call.answers)
            results.append(Result(row_key=request.row_key, finish="score", prompt_tokens=len(ids), completion_tokens=1,
                                  logprobs=tuple(float(row[t]) for t in answers),
                                  adapted=self.adapted(templater, request)))
        return results

    def _generate(self, rows: Sequence[Encoded]) -> list[Result]:
        import torch

        texts = [_Text(request, ids, self._load().templater) for request, ids in rows]
        ids, mask = self._pad(rows)
        steps = max(t.sampling.max_tokens for t in texts)
        luck = torch.stack([_luck(t.request.seed, t.sampling.max_tokens, steps) for t in texts]).to(ids.device)
        temperature = torch.tensor([[t.sampling.temperature] for t in texts], device=ids.device)
        top_p = torch.tensor([[t.sampling.top_p] for t in texts], device=ids.device)
        cache = None
        for step in range(steps):
            logits, cache = self._forward(ids, mask, cache)
            ids = _draw(logits, temperature, top_p, luck[:, step : step + 1])
            mask = torch.cat([mask, mask.new_ones(len(texts), 1)], dim=1)
            for text, token in zip(texts, ids[:, 0].tolist(), strict=True):
                text.add(token)
            if all(t.finish for t in texts):
                break
        return [t.result(self.adapted(self._load().templater, t.request)) for t in texts]


class _Text:
    """One row during generation."""

    def __init__(self, request: Request, prompt: list[int], templater: Templater) -> None:
        self.request, self.prompt = request, prompt
        self.sampling = request.call.sampling or Sampling()
        self._templater = templater
        self._stops = templater.stops(request.call)
        self.tokens: list[int] = []
        self.text = ""
        self.finish = ""

    def add(self, token: int) -> None:
        if self.finish:
            return
        self.tokens.append(token)
        ended = token in self._templater.stop_token_ids
        full = len(self.tokens) >= self.sampling.max_tokens
        if self._stops or ended or full:
            self.text = self._templater.tokenizer.decode(self.tokens,
                                                         skip_special_tokens=not self._templater.decode_all)
        cuts = [at for s in self._stops if (at := self.text.find(s)) >= 0]
        if cuts:
            self.text = self.text[: min(cuts)]
        self.finish = "stop" if ended or cuts else "length" if full else ""

    def result(self, adapted: tuple[str, ...]) -> Result:
        return thoughts.result(
            self.request, self._templater.said(self.request.call, self.text, self.request.thought),
            "length" if self.finish == "length" else "stop", kept=self._templater.keeps_thoughts, adapted=adapted,
            prompt_tokens=len(self.prompt), completion_tokens=len(self.tokens))


def _luck(seed: int, wanted: int, steps: int) -> Any:
    """Uniform numbers (steps,) for one row; the first ``wanted`` depend on nothing but the seed."""
    import torch

    numbers = torch.zeros(steps, dtype=torch.float64)
    numbers[:wanted] = torch.rand(wanted, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return numbers


def _draw(logits: Any, temperature: Any, top_p: Any, luck: Any) -> Any:
    """Tokens (rows, 1) by inverse-CDF sampling within the top-p mass; the likeliest where temperature is 0."""
    scaled = logits.double() / temperature.clamp(min=1e-6)
    probabilities, order = scaled.softmax(-1).sort(dim=-1, descending=True, stable=True)
    total = probabilities.cumsum(-1)
    kept = probabilities * (total - probabilities < top_p)
    total = kept.cumsum(-1)
    rank = (total <= luck * total[:, -1:]).sum(-1, keepdim=True).clamp(max=logits.shape[-1] - 1)
    return order.gather(-1, rank.masked_fill(temperature == 0, 0))


def _windows(requests: Iterable[Request]) -> Iterator[tuple[Request, ...]]:
    source = iter(requests)
    while window := tuple(itertools.islice(source, WINDOW)):
        yield window
