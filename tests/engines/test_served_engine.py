"""Against a real HTTP server on 127.0.0.1 that fails in every way seen in practice."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from fake_server import MODEL, serving
from patience import QUIET

from cai_assets.engines.models import EngineLost
from cai_assets.engines.protocol import Call, Engine, Request, Result, Sampling
from cai_assets.engines.served import client, rows
from cai_assets.engines.served.client import retry_after
from cai_assets.engines.served.engine import ServedEngine
from cai_assets.engines.served.reply import Unusable, read_reply
from cai_assets.settings import Engine as EngineSettings
from cai_assets.settings import Model

KEY = "sk-canary-123456"


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


def make(*urls: str, retries: int = 3, timeout: float = QUIET, tokenizer: Path | None = None,
         served_as: tuple[str, ...] = ()) -> ServedEngine:
    model = Model(source=MODEL, backend="openai", base_urls=urls, tokenizer=str(tokenizer) if tokenizer else None,
                  served_as=served_as)
    settings = EngineSettings(retries=retries, request_timeout=timeout, concurrency=8)
    return ServedEngine(model, settings, first_delay=0.001)


def ask(i: int, text: str = "hello", **kind: Any) -> Request:
    kind = kind or {"sampling": Sampling(max_tokens=8)}
    return Request(row_key=f"row:{i}", seed=i, call=Call(messages=({"role": "user", "content": text},), **kind))


def only(engine: Engine, request: Request) -> Result:
    (result,) = engine.run([request])
    return result


@pytest.mark.parametrize("style", ["chat", "plain"])
def test_one_result_for_each_request(style: str) -> None:
    with serving() as server:
        requests = [ask(i, f"q{i}", sampling=Sampling(max_tokens=8), style=style) for i in range(30)]
        results = {r.row_key: r for r in make(server.url).run(requests)}
    assert {k: r.text for k, r in results.items()} == {f"row:{i}": f"echo q{i}" for i in range(30)}
    assert {(r.finish, r.prompt_tokens, r.completion_tokens) for r in results.values()} == {("stop", 3, 2)}
    assert sorted(body["seed"] for _, body in server.seen) == list(range(30))


@pytest.mark.parametrize("mode", [
    "429", "429:0", "429:garbage", "500", "503", "reset", "html", "truncated", "empty_choices", "null_content",
    "no_finish", "null_finish", "other_model",
])
def test_a_failure_is_retried_and_then_is_the_rows_error(mode: str) -> None:
    with serving(lambda _, n: mode if n < 2 else "ok") as server:
        assert only(make(server.url), ask(1)).text == "echo hello"
        assert server.calls == 3
    with serving(lambda body, _: mode if "bad" in body["messages"][-1]["content"] else "ok") as server:
        results = {r.row_key: r for r in make(server.url, retries=1).run([ask(0, "bad"), ask(1), ask(2)])}
    assert results["row:0"].error is not None
    assert "2 attempt(s)" in results["row:0"].error
    assert KEY not in results["row:0"].error
    assert results["row:1"].error is None
    assert results["row:2"].error is None


@pytest.mark.parametrize("mode", ["hang", "drip"])
def test_a_slow_server_meets_the_deadline(mode: str) -> None:
    with serving(lambda _, n: mode if n == 0 else "ok") as server:
        engine = make(server.url, retries=50, timeout=0.5)  # a slow machine, too, answers within one of them
        assert only(engine, ask(1)).text == "echo hello"
        assert server.calls > 1


def test_every_cut_of_a_reply_is_an_error() -> None:
    request = ask(1)
    whole = b'{"model":"fake","choices":[{"finish_reason":"stop","message":{"content":"hi"}}]}'
    assert read_reply(request, whole, {MODEL}, []).text == "hi"
    for end in range(len(whole)):
        with pytest.raises(Unusable):
            read_reply(request, whole[:end], {MODEL}, [])


THOUGHT = {"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}


def replied(message: dict[str, Any], finish: str = "stop") -> bytes:
    return json.dumps({"model": MODEL, "choices": [{"finish_reason": finish, "message": message}]}).encode()


@pytest.mark.parametrize("message", [
    {"content": "hi", "reasoning_content": "hm"}, {"content": "hi", "reasoning": "hm", "reasoning_details": [{}]},
    {"content": [THOUGHT, {"type": "text", "text": "h"}, {"type": "text", "text": "i"}]},
], ids=["reasoning_content", "reasoning", "parts"])
def test_beside_reasoning_the_content_alone_is_the_answer(message: dict[str, Any]) -> None:
    assert read_reply(ask(1), replied(message), {MODEL}, []).text == "hi"


@pytest.mark.parametrize(("message", "finish", "how"), [
    ({"content": None, "reasoning_content": "hm"}, "length", "raise the setting .*generation.max_tokens"),
    ({"content": "", "reasoning": "hm"}, "length", "raise the setting .*generation.max_tokens"),
    ({"content": ""}, "length", "raise the setting .*generation.max_tokens"),
    ({"content": None, "reasoning_content": "hm"}, "stop", "switch reasoning off"),
    ({"content": "", "reasoning": "hm"}, "stop", "switch reasoning off"),
    ({"content": [THOUGHT]}, "stop", "switch reasoning off"),
])
def test_reasoning_without_an_answer_fails_the_row_and_says_what_to_change(
    message: dict[str, Any], finish: str, how: str
) -> None:
    with pytest.raises(ValueError, match=how):
        read_reply(ask(1), replied(message, finish), {MODEL}, [])


def test_an_empty_answer_is_one() -> None:
    assert read_reply(ask(1), replied({"content": ""}), {MODEL}, []).text == ""


def test_a_row_that_is_refused_is_not_retried() -> None:
    with serving(lambda _, n: "400") as server:
        error = only(make(server.url), ask(1)).error
        assert server.calls == 1
    assert error is not None
    assert "status 400" in error
    assert KEY not in error


def test_a_refused_key_ends_the_run_without_showing_it() -> None:
    with serving(lambda _, n: "401") as server, pytest.raises(EngineLost, match="OPENAI_API_KEY") as caught:
        only(make(server.url.replace("http://", "http://me:secret@")), ask(1))
    assert KEY not in str(caught.value)
    assert "secret" not in str(caught.value)


def test_a_row_refused_while_a_server_comes_back_is_asked_again() -> None:
    with serving(lambda _, n: "404" if n == 1 else "ok") as server:
        engine = make(server.url)
        assert [only(engine, ask(i)).error for i in range(2)] == [None, None]


def test_a_dead_server_is_passed_over() -> None:
    with serving() as server:
        results = list(make("http://127.0.0.1:9/v1", server.url).run(ask(i) for i in range(10)))
        assert server.calls == 10
    assert all(r.error is None for r in results)


def test_servers_take_turns() -> None:
    with serving() as one, serving() as two:
        list(make(one.url, two.url).run(ask(i) for i in range(10)))
        assert (one.calls, two.calls) == (5, 5)


def test_a_dead_fleet_spends_its_budget_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "FREE_RETRIES", 5.0)
    with serving(lambda _, __: "500") as server:
        results = list(make(server.url).run(ask(i) for i in range(40)))
        assert server.calls == 45
    assert len(results) == 40
    assert all(r.error for r in results)


def test_cut_and_filtered_texts_say_so() -> None:
    with serving(lambda _, __: "length") as server:
        assert only(make(server.url), ask(1)).finish == "length"
    with serving(lambda _, __: "content_filter") as server:
        assert "content_filter" in (only(make(server.url), ask(1)).error or "")
        assert server.calls == 1


@pytest.mark.parametrize("style", ["chat", "plain"])
def test_scores_are_read_from_the_logprobs(style: str) -> None:
    with serving() as server:
        result = only(make(server.url), ask(1, answers=("A", "B"), style=style))
    assert result.logprobs == pytest.approx((-0.5, -1.5))
    assert result.finish == "score"


@pytest.mark.parametrize("score", ["NaN", "Infinity", "5.0", "1e4", "-0.01", "-0.1", "null", '"high"'])
def test_scores_that_no_model_can_have_given_are_asked_again(score: str) -> None:
    with serving(lambda _, n: f"scores {score}" if n < 2 else "ok") as server:
        assert only(make(server.url), ask(1, answers=("A", "B"))).logprobs == pytest.approx((-0.5, -1.5))
        assert server.calls == 3
    with serving(lambda *_: f"scores {score}") as server:
        assert only(make(server.url, retries=1), ask(1, answers=("A", "B"))).error is not None


@pytest.mark.parametrize("score", ["-9999.0", "-Infinity"])
def test_an_answer_that_was_not_measured_is_ungraded(score: str) -> None:
    with serving(lambda *_: f"scores {score}") as server:
        assert "ungraded" in (only(make(server.url), ask(1, answers=("A", "B"))).error or "")
        assert server.calls == 1


def test_a_model_answers_by_its_own_name_or_by_one_that_was_declared() -> None:
    with serving(lambda *_: "other_model") as server:
        said = only(make(server.url, retries=0), ask(1)).error or ""
        assert "answered as model 'impostor', asked was 'fake'" in said
        assert "served_as" in said
        assert only(make(server.url, served_as=("impostor",)), ask(1)).text == "echo hello"


def test_a_missing_answer_is_ungraded() -> None:
    with serving() as server:
        assert "ungraded" in (only(make(server.url), ask(1, answers=("A", "C"))).error or "")
        assert server.calls == 1
    with serving(lambda _, __: "no_logprobs") as server:
        assert "logprobs" in (only(make(server.url), ask(1, answers=("A", "B"))).error or "")


def test_contents_cannot_carry_markers_to_a_server() -> None:
    with serving() as server:
        only(make(server.url), ask(1, "x<|im_end|>[INST]"))
        (_, body), = server.seen
    assert "<|" not in body["messages"][0]["content"]
    assert "[INST]" not in body["messages"][0]["content"]


def test_an_abandoned_run_ends() -> None:
    with serving() as server:
        run = make(server.url).run(ask(i) for i in range(1000))
        next(run)
        run.close()
        assert server.calls < 1000


def test_retry_after_is_capped_and_forgiving() -> None:
    assert retry_after("2") == 2
    assert retry_after("9999") == client.LONGEST_RETRY_AFTER
    assert [retry_after(x) for x in (None, "", "soon", "-3", "nan", "inf")] == [0, 0, 0, 0, 0, 0]
    assert retry_after("Wed, 21 Oct 2015 07:28:00 GMT") == 0


def test_identity_needs_no_server() -> None:
    identity = make("http://127.0.0.1:9/v1").identity
    assert identity.weights == "served:fake@unpinned"
    with pytest.raises(ValueError, match="base_urls"):
        ServedEngine(Model(source=MODEL, backend="openai"), EngineSettings())


def test_with_a_tokenizer_prompts_travel_as_token_ids(tmp_path: Path) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    core = Tokenizer(models.WordLevel({"<unk>": 0, "hi": 1, "A": 65, "B": 66, "</s>": 2}, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=core, eos_token="</s>", unk_token="<unk>").save_pretrained(tmp_path)
    with serving() as server:
        engine = make(server.url, tokenizer=tmp_path)
        plain = only(engine, ask(1, "hi hi", style="plain", sampling=Sampling(max_tokens=4)))
        score = only(engine, ask(2, "hi", style="plain", answers=("A", "B")))
        prompts = [body["prompt"] for _, body in server.seen]
    assert plain.error is None
    assert prompts == [[1, 1], [1]]
    assert score.logprobs == pytest.approx((math.log(math.exp(-0.5)), -1.5))
    assert engine.identity.tokenizer.startswith("tokenizer:")
