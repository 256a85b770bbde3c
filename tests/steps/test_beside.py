"""Work that asks several models: what one has answered another is asked about meanwhile, and nothing else changes."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
from fake_server import MODEL, Body, serving
from oracle import Oracle

from cai_assets.engines.around import Around
from cai_assets.engines.models import EngineLost
from cai_assets.engines.protocol import NOT_YET, Call, Request, Result, Sampling
from cai_assets.engines.scripted import Scripted
from cai_assets.engines.served.engine import ServedEngine
from cai_assets.settings import Engine, Model
from cai_assets.steps.complete import Addressed, Completer, Row, Step, Work
from cai_assets.steps.following import follow, together
from cai_assets.store.layout import Layout
from cai_assets.store.row_store import RowStore

SAY, JUDGE = Step("say"), Step("judge")
N = 30


class Elsewhere(Oracle):
    """Answers two at once, in an order of its own; another thread may run it. ``asked`` is set with the first."""

    flows = aside = True

    def __init__(self, **kind: object) -> None:
        super().__init__("judge", **kind)  # type: ignore[arg-type]
        self.asked, self.rng = threading.Event(), random.Random(1)

    def wake(self, end: Exception | None = None) -> None:
        """It never waits."""

    def run(self, requests: Iterable[Request]) -> Iterator[Result]:
        source, flight = iter(requests), list[Request]()
        while True:
            while len(flight) < 2 and (request := next(source, NOT_YET)) is not NOT_YET:
                flight.append(request)
            if not flight:
                return
            self.asked.set()
            yield from super().run([flight.pop(self.rng.randrange(len(flight)))])


class Patient(Oracle):
    """After its first answer it waits until somebody is asked about that."""

    def __init__(self, until: threading.Event) -> None:
        super().__init__("policy")
        self.until, self.in_time = until, False

    def run(self, requests: Iterable[Request]) -> Iterator[Result]:
        for n, result in enumerate(super().run(requests)):
            if n:
                self.in_time = self.until.wait(60)
            yield result


def call(text: str) -> Call:
    return Call(messages=({"role": "user", "content": text},), sampling=Sampling())


def completer(root: Path, engine: object) -> Completer:
    return Completer(engine, RowStore(Layout(root)), seed=0)  # type: ignore[arg-type]


def judged(policy: Completer, judge: Completer, n: int = N) -> dict[int, list[Row]]:
    """Both verdicts on each of the policy's answers."""
    verdicts: dict[int, list[Row]] = {}

    def answer(place: int) -> Work[tuple[int, Row] | None]:
        row = yield Addressed(SAY, call(f"prompt {place}"), policy)
        return place, row

    def asked(answered: tuple[int, Row]) -> Iterator[Work[None]]:
        place, row = answered
        calls = [Addressed(JUDGE, call(f"{order} {row.text}"), judge) for order in ("ab", "ba")] if row.text else []
        return together(calls, lambda rows: verdicts.update({place: rows}))

    follow([answer(i) for i in range(n)], asked, complete=judge, others=[policy], what="all", count=2 * n)
    assert not [t for t in threading.enumerate() if t.name == "beside"]
    return verdicts


def texts(rows: dict[int, list[Row]]) -> dict[int, list[str | None]]:
    return {place: [row.text for row in both] for place, both in sorted(rows.items())}


def test_a_judge_elsewhere_is_asked_while_the_policy_still_answers(tmp_path: Path) -> None:
    elsewhere = Elsewhere()
    patient = Patient(until=elsewhere.asked)
    found = judged(completer(tmp_path, patient), complete := completer(tmp_path, elsewhere))
    assert patient.in_time
    here = judged(completer(tmp_path / "here", Oracle("policy")), completer(tmp_path / "here", Oracle("judge")))
    assert texts(found) == texts(here)
    assert len({r.row_key for r in elsewhere.calls}) == len(elsewhere.calls) == 2 * N
    assert complete.usage["judge"].generated == 2 * N
    again = Elsewhere()
    assert texts(judged(completer(tmp_path, Oracle("policy")), completer(tmp_path, again))) == texts(found)
    assert again.calls == []


def test_rows_that_fail_or_are_forgotten_elsewhere_fail_alone(tmp_path: Path) -> None:
    class Forgets(Elsewhere):
        def run(self, requests: Iterable[Request]) -> Iterator[Result]:
            yield from (r for r in super().run(requests) if int(r.row_key[-1], 16) % 4)

    complete = completer(tmp_path, Forgets(fails=lambda r: r.seed % 11 == 0))
    judged(completer(tmp_path, Oracle("policy")), complete)
    usage = complete.usage["judge"]
    assert usage.generated + usage.failed == 2 * N
    assert usage.errors["the engine returned no result for this row"] > 3
    assert len(usage.errors) == 2


def test_an_engine_that_is_lost_elsewhere_ends_the_work_and_what_was_answered_is_kept(tmp_path: Path) -> None:
    class Dies(Elsewhere):
        def run(self, requests: Iterable[Request]) -> Iterator[Result]:
            for result in super().run(requests):
                if len(self.calls) == 10:
                    raise EngineLost("no server")
                yield result

    policy, judge = Oracle("policy"), Dies()
    with pytest.raises(EngineLost, match="no server"):
        judged(completer(tmp_path, policy), completer(tmp_path, judge))
    rest = Oracle("policy"), Elsewhere()
    judged(*(completer(tmp_path, engine) for engine in rest))
    assert len(policy.calls) + len(rest[0].calls) == N
    assert len(judge.calls) - 1 + len(rest[1].calls) == 2 * N


def served(url: str) -> ServedEngine:
    model = Model(source=MODEL, backend="openai", base_urls=[url])
    return ServedEngine(model, Engine(concurrency=8, retries=20), first_delay=0.01)


def storm(body: Body, n: int) -> str:
    """A server with odd latencies that refuses much of what it is asked, and drops some."""
    rng = random.Random(n)
    time.sleep(min(0.3, rng.lognormvariate(-5, 1.5)))
    return rng.choice(["ok"] * 12 + ["429"] * 10 + ["500", "reset"])


def test_a_judge_behind_a_storm_loses_and_doubles_nothing(tmp_path: Path) -> None:
    with serving(storm) as judge, serving(storm) as policy:
        found = judged(completer(tmp_path, served(policy.url)), complete := completer(tmp_path, served(judge.url)))
    assert texts(found) == {i: [f"echo ab echo prompt {i}", f"echo ba echo prompt {i}"] for i in range(N)}
    assert complete.usage["judge"].failed == 0
    assert RowStore(Layout(tmp_path)).index("judge").rows == 2 * N


def test_a_judge_that_waits_for_one_answer_is_sent_the_next_question_at_once(tmp_path: Path) -> None:
    """The first question is answered only when all the others are."""
    others = threading.Semaphore(0)

    def first_is_last(body: Body, n: int) -> str:
        if "ab echo prompt 0" in str(body):
            for _ in range(2 * N - 1):
                assert others.acquire(timeout=60)
        else:
            others.release()
        return "ok"

    with serving(first_is_last) as judge:
        found = judged(completer(tmp_path, Scripted(reply=lambda call, _: f"echo {call.messages[0]['content']}")),
                       completer(tmp_path, served(judge.url)))
    assert len(found) == N


def test_two_wrappings_of_one_server_never_ask_it_at_once(tmp_path: Path) -> None:
    class Wrapped(Around):
        def run(self, requests: Iterable[Request]) -> Iterator[Result]:
            return self.engine.run(requests)

    with serving() as server:
        engine = served(server.url)
        found = judged(completer(tmp_path, Wrapped(engine)), completer(tmp_path, engine))
    assert len(found) == N


def test_a_run_that_is_ended_leaves_nothing_waiting_for_a_server_that_hangs(tmp_path: Path) -> None:
    with serving(lambda body, n: "hang") as judge, pytest.raises(RuntimeError, match="died"):
        judged(completer(tmp_path, Oracle("policy", dies_after=5)), completer(tmp_path, served(judge.url)))
    assert not [t for t in threading.enumerate() if t.name in {"beside", "served-engine"}]
