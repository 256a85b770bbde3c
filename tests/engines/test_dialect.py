"""Servers that take less of the protocol than vLLM: what means the same is said in another way, the rest is named."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from fake_server import MODEL, FakeServer, serving
from patience import QUIET

from cai_assets.engines.models import EngineLost
from cai_assets.engines.protocol import Call, Message, Request, Result, Sampling
from cai_assets.engines.served import first
from cai_assets.engines.served.engine import ServedEngine
from cai_assets.settings import Engine as EngineSettings
from cai_assets.settings import Model

OPENAI = "says:400 " + json.dumps({"error": {"message": "{}", "type": "invalid_request_error"}})


def said(text: str) -> str:
    return OPENAI.replace("{}", text)


def max_tokens(body: dict[str, Any]) -> str:
    return said("Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' "
                "instead.") if "max_tokens" in body else "ok"


def temperature(body: dict[str, Any]) -> str:
    return said("Unsupported value: 'temperature' does not support 0.7 with this model. Only the default (1) value is "
                "supported.") if body.get("temperature") not in (None, 1) else "ok"


def any_temperature(body: dict[str, Any]) -> str:
    refusal = said("Unsupported parameter: 'temperature' is not supported with this model.")
    return refusal if "temperature" in body else "ok"


def seed(body: dict[str, Any]) -> str:
    detail = [{"type": "extra_forbidden", "loc": ["body", "seed"], "msg": "Extra inputs are not permitted"}]
    return f"says:422 {json.dumps({'object': 'error', 'message': {'detail': detail}})}" if "seed" in body else "ok"


def unrecognized_seed(body: dict[str, Any]) -> str:
    return said("Unrecognized request argument supplied: seed") if "seed" in body else "ok"


def five(body: dict[str, Any]) -> str:
    asked = body.get("top_logprobs", body.get("logprobs", 0))
    return said("Invalid value for 'top_logprobs': must be less than or equal to 5.") if asked > 5 else "ok"


def vllm_five(body: dict[str, Any]) -> str:
    asked = body.get("top_logprobs", body.get("logprobs", 0))
    return said(f"Requested sample logprobs of {asked}, which is greater than max allowed: 5") if asked > 5 else "ok"


def extra(body: dict[str, Any]) -> str:
    return said("Unrecognized request arguments supplied: add_generation_prompt, continue_final_message"
                ) if "continue_final_message" in body else "ok"


def no_system(body: dict[str, Any]) -> str:
    return said("System role not supported") if body["messages"][0]["role"] == "system" else "ok"


def alternating(body: dict[str, Any]) -> str:
    roles = [m["role"] for m in body["messages"]]
    return said("Conversation roles must alternate user/assistant/user/assistant/...") if (
        roles != ["user", "assistant"] * (len(roles) // 2) + ["user"] * (len(roles) % 2)) else "ok"


def asks(n: int, *, last: Message | None = None, **kind: Any) -> list[Request]:
    kind = kind or {"sampling": Sampling(max_tokens=8)}
    asked: Message = {"role": "user", "content": "hello"}
    call = Call(messages=(asked, last) if last else (asked,), **kind)
    return [Request(row_key=f"row:{i}", seed=i, call=call) for i in range(n)]


def engine_of(server: FakeServer) -> ServedEngine:
    return ServedEngine(Model(source=MODEL, base_urls=(server.url,)),  # type: ignore[arg-type]
                        EngineSettings(retries=0, request_timeout=QUIET, concurrency=4), first_delay=0.001)


def run(server: FakeServer, n: int = 20, **kind: Any) -> list[Result]:
    return list(engine_of(server).run(asks(n, **kind)))


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(first, "FIRST_WORD", QUIET)


@pytest.mark.parametrize(("takes", "kind"), [
    (max_tokens, {}), (seed, {}), (unrecognized_seed, {}), (any_temperature, {"sampling": Sampling(temperature=1)}),
    (any_temperature, {"answers": ("A", "B")}), (temperature, {"answers": ("A", "B")}), (five, {"answers": ("A", "B")}),
    (vllm_five, {"answers": ("A", "B"), "style": "plain"}),
], ids=lambda x: getattr(x, "__name__", ""))
def test_what_means_the_same_is_said_in_another_way_and_told_once(
    takes: Callable[[dict[str, Any]], str], kind: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    with serving(lambda body, _: takes(body)) as server:
        results = run(server, **kind)
        assert server.calls == 20 + 1, "the first call alone is refused"
    assert [r.error for r in results] == [None] * 20
    assert [m.startswith("from now on") for m in caplog.messages] == [True]


@pytest.mark.parametrize("takes", [no_system, alternating])
def test_turns_that_a_server_does_not_take_are_joined_and_no_text_is_lost(
    takes: Callable[[dict[str, Any]], str], caplog: pytest.LogCaptureFixture
) -> None:
    chat: list[Message] = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "One."}]
    if takes is alternating:
        chat.append({"role": "user", "content": "Two."})
    requests = [Request(row_key=f"row:{i}", seed=i, call=Call(messages=tuple(chat), sampling=Sampling(max_tokens=8)))
                for i in range(5)]
    with serving(lambda body, _: takes(body)) as server:
        results = list(engine_of(server).run(requests))
        assert server.calls <= 5 + 2
        sent = [m["content"] for m in server.seen[-1][1]["messages"]]
    assert [r.error for r in results] == [None] * 5
    assert sent == ["\n\n".join(m["content"] for m in chat)]
    assert all("joined" in r.adapted[0] and "because the server said" in r.adapted[0] for r in results)
    assert caplog.messages


def test_several_at_once() -> None:
    def takes(body: dict[str, Any], _: int) -> str:
        return next((no for rule in (max_tokens, seed, any_temperature) if (no := rule(body)) != "ok"), "ok")

    with serving(takes) as server:
        assert {r.error for r in run(server, sampling=Sampling(temperature=1))} == {None}
        assert set(server.seen[-1][1]) == {"model", "messages", "top_p", "max_completion_tokens"}


@pytest.mark.parametrize(("takes", "kind", "how"), [
    (temperature, {}, "generation.temperature=1"), (any_temperature, {}, "generation.temperature=1"),
    (extra, {"answers": ("A", "B"), "last": {"role": "assistant", "content": "("}}, "labels.style=plain"),
], ids=["temperature", "any temperature", "a continued turn"])
def test_what_would_mean_another_thing_fails_with_the_setting_that_helps(
    takes: Callable[[dict[str, Any]], str], kind: dict[str, Any], how: str
) -> None:
    with serving(lambda body, _: takes(body)) as server:
        results = run(server, n=3, **kind)
        assert server.calls == 1, "the others would be refused, too"
    assert len(results) == 3
    assert all(r.refused and how in str(r.error) for r in results)


@pytest.mark.parametrize("takes", [
    "no_logprobs", said("Unsupported parameter: 'logprobs' is not supported with this model."),
    said("You are not allowed to request logprobs: this model does not support logprobs."),
], ids=["ignored", "refused", "in other words"])
def test_where_a_server_gives_no_logprobs_one_call_is_spent_and_the_error_says_what_labels_need(takes: str) -> None:
    with serving(lambda *_: takes) as server:
        results = run(server, answers=("A", "B"))
        assert server.calls == 1
    assert len(results) == 20
    assert all("set answer_samples=16 of this model (models.labeller.answer_samples)" in str(r.error) for r in results)
    assert {r.refused for r in results} == {takes != "no_logprobs"}, "a reply without them may have been an accident"


def test_a_server_that_only_chats_ends_the_run_with_the_settings_that_help() -> None:
    says = said("This is a chat model and not supported in the v1/completions endpoint.").replace("400", "404")
    with serving(lambda *_: says) as server, pytest.raises(EngineLost, match=r"set critique\.style=chat and labels"):
        run(server, style="plain", sampling=Sampling())



def test_kinds_that_are_new_go_alone_and_what_was_answered_goes_at_once() -> None:
    with serving(lambda body, n: max_tokens(body) if n < 1 else five(body)) as server:
        engine = engine_of(server)
        score = {"answers": ("A", "B"), "style": "plain"}
        assert {r.error for r in engine.run([*asks(20), *asks(20, **score)])} == {None}
        assert server.calls == 40 + 2, "of each kind the first is refused"
        assert {r.error for r in engine.run(asks(20))} == {None}
        assert server.calls == 60 + 2


def test_a_first_call_without_a_word_keeps_the_others_for_a_moment_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(first, "FIRST_WORD", 0.01)
    with serving(lambda _, n: "hang" if n == 0 else "ok") as server:
        answers = engine_of(server).run(asks(20))
        assert {next(answers).error for _ in range(19)} == {None}
        answers.close()


def test_each_result_says_how_its_call_was_adapted_and_why() -> None:
    with serving(lambda body, _: max_tokens(body)) as server:
        results = run(server, n=5)
    (why,) = {why for r in results for why in r.adapted}
    assert why.startswith("max_tokens is sent as max_completion_tokens, because the server said: status 400: ")
    assert [len(r.adapted) for r in results] == [1] * 5
    with serving() as server:
        assert {r.adapted for r in run(server, n=5)} == {()}
