"""Fleets of real small servers, some of which misbehave: as long as one is healthy, no row is lost and no run ends."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from fake_server import MODEL, FakeServer, serving
from patience import QUIET

from cai_assets.engines.models import EngineLost
from cai_assets.engines.protocol import Call, Request, Result, Sampling
from cai_assets.engines.served import client, fleet, rows
from cai_assets.engines.served.engine import ServedEngine
from cai_assets.settings import Engine as EngineSettings
from cai_assets.settings import Model

pytestmark = pytest.mark.fault("servers that die, hang, refuse, lie, and come back")

DEAD = "http://127.0.0.1:9/v1"


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(fleet, "LONGEST_PAUSE", 0.25)  # a server that was away for long on a slow machine is tried soon


def make(*urls: str, retries: int = 1, timeout: float = QUIET, patience: float = QUIET, concurrency: int = 16,
         first_delay: float = 0.001) -> ServedEngine:
    settings = EngineSettings(retries=retries, request_timeout=timeout, concurrency=concurrency, patience=patience)
    return ServedEngine(Model(source=MODEL, backend="openai", base_urls=urls), settings, first_delay=first_delay)


def asks(n: int, **kind: Any) -> list[Request]:
    kind = kind or {"sampling": Sampling(max_tokens=8)}
    return [Request(row_key=f"row:{i}", seed=i, call=Call(messages=({"role": "user", "content": f"q{i}"},), **kind))
            for i in range(n)]


def lost(results: list[Result]) -> list[str]:
    return [r.error for r in results if r.error]


BROKEN = {
    "refuses the key": "401", "forbids": "403", "knows no such model": "404", "fails": "500",
    "has no one behind": "503", "has too much to do": "429:9", "hangs up": "reset", "wants a login": "html",
    "cuts its replies": "truncated",
    "answers as another": "other_model", "says nothing": "null_content", "has no choices": "empty_choices",
    "sends elsewhere": f"redirect:307 {DEAD}/chat/completions", "sends by GET": f"redirect:302 {DEAD}/chat/completions",
}


@pytest.mark.parametrize("mode", BROKEN.values(), ids=BROKEN)
def test_no_row_is_lost_beside_a_healthy_server(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "FREE_RETRIES", 3.0)
    with serving(lambda *_: mode) as broken, serving() as healthy:
        results = list(make(broken.url, healthy.url, retries=0).run(asks(300)))
    assert lost(results) == []
    assert sorted(r.row_key for r in results) == sorted(f"row:{i}" for i in range(300))
    assert {r.text for r in results} == {f"echo q{i}" for i in range(300)}
    assert broken.calls < 150, "it was not taken out of turn"


@pytest.mark.parametrize("score", ["NaN", "5.0", "-0.1"])
def test_no_score_is_lost_beside_a_healthy_server(score: str) -> None:
    with serving(lambda *_: f"scores {score}") as broken, serving() as healthy:
        results = list(make(broken.url, healthy.url, retries=0).run(asks(100, answers=("A", "B"))))
    assert {r.logprobs for r in results} == {results[0].logprobs}
    assert lost(results) == []


def test_a_dead_one_of_two_loses_none_of_a_thousand_rows() -> None:
    with serving() as healthy:
        results = list(make(DEAD, healthy.url, retries=0, concurrency=64).run(asks(1000)))
        assert healthy.calls == 1000
    assert lost(results) == []


def test_one_of_three_that_refuses_the_key_loses_none() -> None:
    with serving(lambda *_: "401") as refusing, serving() as one, serving() as two:
        results = list(make(one.url, refusing.url, two.url).run(asks(200)))
        assert abs(one.calls - two.calls) < 100
    assert lost(results) == []


def test_one_that_hangs_costs_its_rows_time_and_nothing_else() -> None:
    with serving(lambda *_: "hang") as hanging, serving() as healthy:
        results = list(make(hanging.url, healthy.url, retries=50, timeout=1.0).run(asks(100)))
    assert lost(results) == []


def test_a_server_that_says_nothing_is_passed_over_before_its_deadline() -> None:
    with serving(lambda *_: "hang") as hanging, serving() as healthy:
        run = make(hanging.url, healthy.url, concurrency=8).run(asks(100))
        first = [next(run) for _ in range(90)]
        run.close()
        assert hanging.calls < 8, "every call that may be in flight waits for it"
    assert lost(first) == []


def test_one_that_dies_in_the_middle_loses_none_and_comes_back() -> None:
    with serving() as healthy, ExitStack() as stack:
        dying = stack.enter_context(serving())
        port, seen = dying.http.server_address[1], list[Result]()
        engine, again = make(healthy.url, dying.url, retries=0), list[FakeServer]()
        for result in engine.run(_until(lambda: bool(again and again[0].calls > 5))):
            seen.append(result)
            if len(seen) == 100:
                stack.close()
            elif len(seen) == 300:
                again.append(stack.enter_context(serving(port=port)))
    assert lost(seen) == []
    assert len(seen) > 300
    assert again[0].calls > 5


@pytest.mark.parametrize("mode", ["404", "other_model"])
def test_one_that_restarts_under_another_name_and_then_under_its_own(mode: str) -> None:
    with serving() as healthy, serving(_stops([], mode)) as renamed:
        results = list(make(healthy.url, renamed.url, retries=0).run(_until(lambda: renamed.calls > 150)))
    assert lost(results) == []


@pytest.mark.parametrize("gone", ["503", "502", "reset", "404", "401"])
def test_the_only_server_restarts_and_no_row_is_lost(gone: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "FREE_RETRIES", 10.0)
    with serving(_stops([], gone)) as server:
        results = list(make(server.url, retries=5, concurrency=32).run(asks(100)))
    assert lost(results) == []


def test_the_only_server_stops_and_starts_again() -> None:
    with ExitStack() as stack:
        server = stack.enter_context(serving())
        port, seen = server.http.server_address[1], list[Result]()
        for result in make(server.url, retries=5).run(asks(200)):
            seen.append(result)
            if len(seen) == 50:
                stack.close()
                timer = threading.Timer(0.5, lambda: stack.enter_context(serving(port=port)))
                timer.start()
        timer.join()
    assert lost(seen) == []
    assert len(seen) == 200


def test_when_all_are_out_for_long_the_run_ends_and_names_each_with_its_last_sentence(
    monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(lambda _, n: "ok" if n < 5 else "503") as one, serving(lambda *_: "401") as two:
        engine = make(one.url, two.url, DEAD, patience=0.5)
        with pytest.raises(EngineLost) as caught:
            list(engine.run(asks(1000)))
    said = str(caught.value)
    assert f"{one.url}: status 503" in said
    assert f"{two.url}: status 401" in said
    assert f"{DEAD}: ClientConnectorError" in said
    assert "\n" not in said


def test_servers_that_never_answered_are_waited_for_only_a_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fleet, "FIRST_PATIENCE", 0.2)
    with pytest.raises(EngineLost, match=DEAD):
        list(make(DEAD).run(asks(10)))


@pytest.mark.parametrize("n", [7, 49])
def test_a_row_that_is_refused_by_a_server_which_serves_others_is_the_only_one_that_fails(n: int) -> None:
    with serving(lambda body, _: "403" if body["messages"][-1]["content"] == f"q{n}" else "ok") as server:
        results = list(make(server.url).run(asks(50)))
    assert [(r.row_key, r.refused) for r in results if r.error] == [(f"row:{n}", True)]


def test_rows_that_are_bad_by_themselves_fail_and_cost_the_others_nothing() -> None:
    bad = {f"q{i}" for i in range(0, 60, 3)}
    rule: Callable[[Any, int], str] = lambda body, _: "500" if body["messages"][-1]["content"] in bad else "ok"  # noqa: E731
    with serving(rule) as one, serving(rule) as two:
        results = list(make(one.url, two.url).run(asks(60)))
    assert {int(r.row_key[4:]) for r in results if r.error} == set(range(0, 60, 3))


def test_a_redirect_on_the_same_server_is_followed_with_the_same_body() -> None:
    rule: Callable[[Any, int], str] = lambda _, n: "redirect:307 /v2/chat/completions" if n == 0 else "ok"  # noqa: E731
    with serving(rule) as server:
        (result,) = make(server.url).run(asks(1))
        assert [path for path, _ in server.seen] == ["/v1/chat/completions", "/v2/chat/completions"]
    assert result.text == "echo q0"


def test_a_redirect_elsewhere_takes_nothing_there() -> None:
    with serving() as elsewhere, serving(lambda *_: f"redirect:307 {elsewhere.url}/chat/completions") as server:
        with pytest.raises(EngineLost, match=r"redirects to http://127.0.0.1:\d+, and is not followed"):
            list(make(server.url).run(asks(1)))
        assert elsewhere.calls == 0


def test_a_reply_without_end_is_a_failed_attempt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "LARGEST_REPLY", 10**6)
    with serving(lambda _, n: "endless" if n == 0 else "ok") as server:
        (result,) = make(server.url).run(asks(1))
        assert server.calls == 2
    assert result.text == "echo q0"


def test_a_pause_doubles_up_to_a_minute_however_often() -> None:
    assert [fleet.doubled(0.5, n, 60.0) for n in (0, 1, 3, 10, 100_000)] == [0.5, 1.0, 4.0, 60.0, 60.0]


def test_where_a_server_was_out_of_turn_the_next_run_of_the_engine_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fleet, "LONGEST_PAUSE", QUIET)
    with serving() as healthy:
        engine = make(DEAD, healthy.url, first_delay=QUIET)
        assert lost(list(engine.run(asks(20)))) == []
        faults = [s.faults for s in engine._fleet.servers]  # type: ignore[union-attr]
        assert lost(list(engine.run(asks(20)))) == []
        assert [s.faults for s in engine._fleet.servers] == faults  # type: ignore[union-attr]


def test_lines_say_who_is_out_of_turn_and_who_is_back(caplog: pytest.LogCaptureFixture) -> None:
    with serving() as healthy, serving(lambda _, n: "404" if n == 0 else "ok") as server:
        list(make(healthy.url, server.url).run(_until(lambda: server.calls > 4)))
        turns = [m for m in caplog.messages if m.startswith(server.url) and ("turn" in m or "again" in m)]
    assert len(turns) == 2, caplog.messages
    assert turns[0].startswith(f"{server.url} is out of turn: status 404")
    assert turns[1].startswith(f"{server.url} answers again")


def _stops(when: list[float], mode: str) -> Callable[[Any, int], str]:
    """Answers in ``mode`` for half a second, from the 31st call on."""
    def rule(_: Any, n: int) -> str:
        when.extend([time.monotonic()] * (n == 30))
        return mode if when and time.monotonic() < when[0] + 0.5 else "ok"

    return rule


def _until(enough: Callable[[], bool], most: int = 20_000) -> Iterator[Request]:
    """Requests until something has happened."""
    for request in asks(most):
        if enough():
            return
        time.sleep(0.001)
        yield request


def auto(*urls: str, **kind: Any) -> ServedEngine:
    return make(*urls, concurrency="auto", **kind)  # type: ignore[arg-type]


def test_a_server_that_takes_few_at_once_and_finds_itself_asked_for_more_loses_no_row() -> None:
    at_once, lock = 0, threading.Lock()

    def room(*_: object) -> str:
        nonlocal at_once
        with lock:
            at_once += 1
            full = at_once > 4
        time.sleep(0.002)
        with lock:
            at_once -= 1
        return "429" if full else "ok"

    with serving(room) as server:
        engine = auto(server.url, retries=20)
        results = list(engine.run(asks(600)))
        refused = server.calls - 600
    assert lost(results) == []
    assert len({r.row_key for r in results}) == 600
    assert refused < 300
    (said,) = engine.servers.values()
    assert said.startswith("0 in flight, 600 replies, at most ")
    assert " p50 0.0" in said


def test_a_server_that_turns_half_of_all_calls_away_loses_no_row_however_few_retries_there_are(
    monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rows, "FREE_RETRIES", 3.0)
    with serving(lambda _, n: ("429", "429:0", "ok", "ok")[random.Random(n).randrange(4)]) as server:
        results = list(make(server.url, retries=0).run(asks(600)))
        assert server.calls > 900
    assert lost(results) == []
    assert sorted(r.row_key for r in results) == sorted(f"row:{i}" for i in range(600))


def test_rows_that_are_turned_away_fail_when_nobody_is_answered_any_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "STILL_ANSWERS", 0.5)
    with serving(lambda _, n: "ok" if n < 20 else "429") as server:
        results = list(make(server.url, retries=1).run(asks(40)))
    assert len(results) == 40
    assert len(lost(results)) == 20


@pytest.mark.parametrize("mode", BROKEN.values(), ids=BROKEN)
def test_beside_a_healthy_server_that_finds_its_number_no_row_is_lost(
    mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rows, "FREE_RETRIES", 3.0)
    with serving(lambda *_: mode) as broken, serving() as healthy:
        results = list(auto(broken.url, healthy.url, retries=0).run(asks(300)))
    assert lost(results) == []
    assert sorted(r.row_key for r in results) == sorted(f"row:{i}" for i in range(300))
