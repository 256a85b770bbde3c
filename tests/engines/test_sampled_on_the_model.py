"""On the real model, the shares of sampled replies are the probabilities that are read from it exactly."""

from __future__ import annotations

import math

import pytest

pytest.importorskip("transformers")

from model_fixtures import prepared_model

from cai_assets.engines.protocol import Call, Message, Request, Sampled
from cai_assets.engines.sampled import SampledAnswers, read_of
from cai_assets.engines.transformers_engine import TransformersEngine
from cai_assets.settings import Engine
from cai_assets.steps.compare import comparison_call, p_first

pytestmark = pytest.mark.model
SAMPLES = 64


def asked(question: str, a: str, b: str) -> Call:
    turns: list[Message] = [{"role": "user", "content": question}]
    return comparison_call(turns, a, b, request="Which answer is kinder?", style="plain")


CALLS = [asked("How do I bake bread?", "Mix flour and water.", "Find out yourself, fool."),
         asked("What is the capital of France?", "Stop asking.", "It is Paris, a lovely city.")]


def test_shares_of_sampled_replies_are_the_exact_probabilities() -> None:
    model = prepared_model()
    exact = TransformersEngine(model.path, model.identity, Engine(dtype="float32", max_model_len=1024))
    polled = SampledAnswers(exact, Sampled(samples=SAMPLES, max_tokens=2))
    requests = [Request(row_key=f"k{i}", seed=i, call=call) for i, call in enumerate(CALLS)]
    read, shares = ({r.row_key: r for r in engine.run(requests)} for engine in (exact, polled))
    exact.close()
    assert read.keys() == shares.keys() == {"k0", "k1"}
    for key, row in shares.items():
        p, share = p_first(read[key].logprobs), p_first(row.logprobs)
        named, every = read_of(row.text)
        assert p is not None
        assert share is not None
        assert every == SAMPLES
        assert named > SAMPLES / 2, f"the model does not answer the question: {row.text}"
        assert share == pytest.approx(p, abs=4 * math.sqrt(p * (1 - p) / named) + 0.02)
