"""Work that asks for one row after another: what waits for what, and that nothing else changes."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from pathlib import Path

import polars as pl
import pytest
from oracle import Oracle

from cai_assets.constitution.model import Constitution, Principle
from cai_assets.engines.protocol import NOT_YET, Call, Request, Result, Sampling
from cai_assets.settings import Critique, Generation
from cai_assets.steps import flow as module
from cai_assets.steps import tables as batches
from cai_assets.steps.complete import Completer, Row, Step, Work
from cai_assets.steps.critique import critique_and_revise
from cai_assets.store.layout import Layout
from cai_assets.store.row_store import RowStore

CONSTITUTION = Constitution(name="c", version="v1", principles=tuple(
    Principle(id=f"p{i}", critique=f"Criticize by rule {i}.", revision=f"Revise by rule {i}.") for i in range(3)))
SAY = Step("say")


class Flowing(Oracle):
    """Answers ``room`` requests at once, in an order of its own; an engine that can wait for its next request."""

    flows = True

    def __init__(self, room: int = 4, seed: int = 0, **kind: object) -> None:
        super().__init__(**kind)  # type: ignore[arg-type]
        self.room, self.rng, self.idle = room, random.Random(seed), 0

    def run(self, requests: Iterable[Request]) -> Iterator[Result]:
        source, flight = iter(requests), list[Request]()
        while True:
            while len(flight) < self.room and (request := next(source, NOT_YET)) is not NOT_YET:
                flight.append(request)
            if not flight:
                return
            self.idle += self.room - len(flight)
            yield from super().run([flight.pop(self.rng.randrange(len(flight)))])


def completer(root: Path, engine: Oracle) -> Completer:
    return Completer(engine, RowStore(Layout(root)), seed=0)


def call(text: str) -> Call:
    return Call(messages=({"role": "user", "content": text},), sampling=Sampling())


def talk(name: str, turns: int) -> Work[list[Row]]:
    said: list[Row] = []
    for _ in range(turns):
        row = yield SAY, call(f"{name} {said[-1].text if said else ''}")
        if row.error:
            return said
        said.append(row)
    return said


def responses(n: int) -> pl.DataFrame:
    return pl.DataFrame([{"prompt_id": f"q{i:03d}", "messages": [{"role": "user", "content": f"Question {i}?"}],
                          "response": f"Answer {i}.", "error": None, "row_id": f"id{i}"} for i in range(n)])


def tables(root: Path, engine: Oracle, **settings: object) -> tuple[pl.DataFrame, pl.DataFrame]:
    return critique_and_revise(responses(13), CONSTITUTION, complete=completer(root, engine),
                               settings=Critique(**settings), generation=Generation())  # type: ignore[arg-type]


@pytest.mark.parametrize("settings", [
    {}, {"mode": "direct"}, {"stop_above": 0.5}, {"shuffle": True}, {"shuffle": True, "stop_above": 0.5},
], ids=str)
@pytest.mark.parametrize("seed", range(3))
def test_tables_and_calls_are_the_same_in_whatever_order_rows_come_back(
    tmp_path: Path, settings: dict[str, object], seed: int
) -> None:
    def fails(request: Request) -> bool:
        return request.seed % 11 == 0

    waves, flowing = Oracle(fails=fails), Flowing(seed=seed, fails=fails)
    wanted = tables(tmp_path / "waves", waves, rounds=3, **settings)
    found = tables(tmp_path / "flowing", flowing, rounds=3, **settings)
    assert any(wanted[1]["error"].is_not_null())
    for before, now in zip(wanted, found, strict=True):
        assert now.equals(before)
    assert sorted(r.row_key for r in flowing.calls) == sorted(r.row_key for r in waves.calls)


def test_no_chain_waits_for_another(tmp_path: Path) -> None:
    engine = Flowing(room=4)
    tables(tmp_path, engine, rounds=4)
    assert len(engine.calls) == 13 * 8
    barriers = 8 * (0 + 1 + 2 + 3)  # at the end of each half of a round the room empties
    assert engine.idle < barriers / 2


def test_what_several_ask_for_is_asked_once_and_counted_once(tmp_path: Path) -> None:
    engine, complete = Flowing(), None
    complete = completer(tmp_path, engine)
    done = complete.flow([talk("same", 3) for _ in range(5)], what="talks", asks=3)
    assert len(engine.calls) == 3
    assert {tuple(r.text for r in said) for said in done} == {tuple(r.text for r in done[0])}
    usage = complete.usage["say"]
    assert (usage.generated, usage.reused, usage.completion_tokens) == (3, 12, 9)


def test_a_second_run_asks_for_nothing_and_one_that_was_cut_off_for_the_rest(tmp_path: Path) -> None:
    works = [f"talk {i}" for i in range(10)]
    with pytest.raises(RuntimeError):
        completer(tmp_path, Flowing(dies_after=0)).flow([talk(w, 3) for w in works], what="talks", asks=3)

    class Dies(Flowing):
        def run(self, requests: Iterable[Request]) -> Iterator[Result]:
            for result in super().run(requests):
                if len(self.calls) > 12:
                    raise RuntimeError("the engine died")
                yield result

    with pytest.raises(RuntimeError):
        completer(tmp_path, Dies()).flow([talk(w, 3) for w in works], what="talks", asks=3)
    rest, none = Flowing(), Flowing()
    first = completer(tmp_path, rest).flow([talk(w, 3) for w in works], what="talks", asks=3)
    assert len(rest.calls) == 30 - 12
    second = completer(tmp_path, none).flow([talk(w, 3) for w in works], what="talks", asks=3)
    assert none.calls == []
    assert [[r.text for r in said] for said in first] == [[r.text for r in said] for said in second]


def test_work_whose_row_fails_ends_as_it_wants_and_an_engine_that_forgets_a_row_fails_it(tmp_path: Path) -> None:
    class Forgets(Flowing):
        def run(self, requests: Iterable[Request]) -> Iterator[Result]:
            yield from (r for r in super().run(requests) if int(r.row_key[-1], 16) % 4)

    complete = completer(tmp_path, Forgets())
    done = complete.flow([talk(f"talk {i}", 4) for i in range(12)], what="talks", asks=4)
    usage = complete.usage["say"]
    assert usage.errors == {"the engine returned no result for this row": usage.failed}
    assert sum(len(said) < 4 for said in done) == usage.failed > 0


def test_progress_counts_what_is_still_to_come(tmp_path: Path) -> None:
    lines: list[str] = []
    completer(tmp_path, Flowing()).flow([talk(f"talk {i}", 2) for i in range(3)], what="talks", asks=2)
    complete = Completer(Flowing(), RowStore(Layout(tmp_path)), seed=0, log=lines.append)
    complete.flow([talk(f"talk {i}", 3) for i in range(5)], what="talks", asks=3)
    assert lines[-1].startswith("talks: 9/9 rows"), "6 of 15 were there"


@pytest.mark.parametrize("engine", [Oracle, Flowing])
@pytest.mark.parametrize("settings", [{}, {"stop_above": 0.5}], ids=str)
def test_tables_and_calls_are_the_same_however_few_rows_are_under_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, engine: type[Oracle], settings: dict[str, object]
) -> None:
    wanted = tables(tmp_path / "all", all_ := engine(fails=lambda r: r.seed % 11 == 0), rounds=3, **settings)
    monkeypatch.setattr(module, "AT_ONCE", 30)  # four chains of six rows each, or three of nine
    monkeypatch.setattr(batches, "BATCH", 5)
    few = engine(fails=lambda r: r.seed % 11 == 0)
    for found, before in zip(tables(tmp_path / "few", few, rounds=3, **settings), wanted, strict=True):
        assert found.equals(before)
        assert found.n_chunks() == 1
    assert sorted(r.row_key for r in few.calls) == sorted(r.row_key for r in all_.calls)
    again = engine(fails=lambda r: r.seed % 11 == 0)
    for found, before in zip(tables(tmp_path / "few", again, rounds=3, **settings), wanted, strict=True):
        assert found.equals(before)
    assert {r.row_key for r in again.calls} <= {r.row_key for r in few.calls if r.seed % 11 == 0}


@pytest.mark.parametrize("engine", [Oracle, Flowing])
def test_work_is_taken_as_there_is_room_and_equal_calls_far_apart_are_asked_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, engine: type[Oracle]
) -> None:
    monkeypatch.setattr(module, "AT_ONCE", 12)
    taken, most, asked = 0, 0, engine(fails=lambda r: "talk 3 " in r.call.messages[0]["content"])
    complete = completer(tmp_path, asked)

    def works() -> Iterator[Work[list[Row]]]:
        nonlocal taken
        for i in range(100):
            taken += 1
            yield talk(f"talk {i % 20}", 2)

    said = []
    for given, rows in enumerate(complete.stream(works(), what="talks", count=100, asks=2)):
        most = max(most, taken - given)
        said.append([row.text for row in rows])
    assert most == 12 // 2
    assert said == said[:20] * 5
    assert [bool(rows) for rows in said[:5]] == [True, True, True, False, True]
    assert len(asked.calls) == 19 * 2 + 1
    usage = complete.usage["say"]
    assert (usage.generated, usage.reused, usage.failed) == (38, 4 * 38, 5)
