"""The engine by rule is a full engine: deterministic, and different where it should be."""

from __future__ import annotations

from cai_assets.engines.protocol import Call, Engine, Request, Sampling
from cai_assets.engines.scripted import Scripted


def ask(text: str, seed: int = 0, **sampling: object) -> Request:
    chosen = Sampling.model_validate({"max_tokens": 64, **sampling})
    call = Call(messages=({"role": "user", "content": text},), sampling=chosen)
    return Request(row_key=f"row:{text}:{seed}", seed=seed, call=call)


def texts(*requests: Request) -> list[str]:
    return [r.text for r in Scripted().run(requests)]


def test_it_is_an_engine_that_counts() -> None:
    engine = Scripted()
    assert isinstance(engine, Engine)
    assert len(list(engine.run(ask(str(i)) for i in range(7)))) == 7
    assert engine.calls == 7
    assert engine.identity.weights == "scripted:scripted"


def test_texts_are_a_function_of_the_request() -> None:
    requests = [ask(f"q{i}", seed=i) for i in range(50)]
    assert texts(*requests) == texts(*requests)
    assert len(set(texts(*requests))) > 45


def test_seeds_make_samples_differ_but_not_always() -> None:
    same = [len(set(texts(ask(f"q{i}", 1), ask(f"q{i}", 2)))) == 1 for i in range(400)]
    assert 20 < sum(same) < 100
    assert texts(ask("q", 1, temperature=0)) == texts(ask("q", 2, temperature=0))


def test_sampling_limits_hold() -> None:
    (cut,) = Scripted().run([ask("q", max_tokens=3)])
    assert (len(cut.text.split()), cut.finish, cut.completion_tokens) == (3, "length", 3)
    (stopped,) = Scripted(reply=lambda c, r: "one\n\nHuman: two").run([ask("q", stop=("\n\nHuman:",))])
    assert (stopped.text, stopped.finish) == ("one", "stop")


def test_scores_are_log_probabilities() -> None:
    call = Call(messages=({"role": "user", "content": "choose"},), answers=("A", "B"))
    (result,) = Scripted().run([Request(row_key="s", seed=0, call=call)])
    assert len(result.logprobs) == 2
    assert all(p < 0 for p in result.logprobs)
    (ruled,) = Scripted(score=lambda c, r: (-1.0, -2.0)).run([Request(row_key="s", seed=0, call=call)])
    assert ruled.logprobs == (-1.0, -2.0)


def test_faults_touch_only_their_rows() -> None:
    def reply(call: Call, request: Request) -> str:
        if "bad" in call.messages[0]["content"]:
            raise ValueError("no reply to that")
        return "fine"

    requests = [ask("a"), ask("bad"), ask("c")]
    results = list(Scripted(reply=reply, fail=lambda key: "row:a" in key).run(requests))
    assert [r.error for r in results] == ["scripted failure", "no reply to that", None]
    assert [r.row_key for r in results] == [r.row_key for r in requests]
