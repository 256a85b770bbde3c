from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from object_store import DataRoot
from oracle import Oracle

from cai_assets.engines.protocol import Call, Request, Result, Sampling
from cai_assets.steps import progress
from cai_assets.steps.complete import Completer, Step
from cai_assets.store.layout import Layout
from cai_assets.store.row_store import RowStore

STEP = Step("respond")


def call(text: str) -> Call:
    return Call(messages=({"role": "user", "content": text},), sampling=Sampling())


def completer(root: DataRoot, engine: Oracle) -> Completer:
    return Completer(engine, RowStore(Layout(root)), seed=0)


def test_rows_come_back_in_order_and_the_second_run_makes_no_call(root: DataRoot) -> None:
    calls = [call(str(i)) for i in range(20)]
    first = completer(root, Oracle())
    rows = first(STEP, calls)
    again = completer(root, engine := Oracle())
    assert [r.text for r in again(STEP, list(reversed(calls)))] == [r.text for r in reversed(rows)]
    assert engine.calls == []
    assert (first.usage["respond"].generated, first.usage["respond"].completion_tokens) == (20, 60)
    assert (again.usage["respond"].reused, again.usage["respond"].completion_tokens) == (20, 0)


def test_calls_that_begin_alike_enter_the_engine_together(tmp_path: Path) -> None:
    texts = [f"{first} {last}" for last in range(5) for first in ("a", "b", "c")]
    rows = completer(tmp_path, engine := Oracle())(STEP, [call(text) for text in texts])
    assert [r.call.messages[0]["content"] for r in engine.calls] == sorted(texts)
    one_by_one = completer(tmp_path / "other", Oracle())
    assert [r.text for r in rows] == [one_by_one(STEP, [call(text)])[0].text for text in texts]


def test_equal_calls_are_run_once_and_counted_once(root: DataRoot) -> None:
    complete = completer(root, engine := Oracle())
    rows = complete(STEP, [call("same")] * 3)
    assert len(engine.calls) == 1
    assert [r.status for r in rows] == ["generated", "reused", "reused"]
    assert complete.usage["respond"].completion_tokens == 3


def test_failures_are_returned_with_their_reason_and_never_stored(root: DataRoot) -> None:
    bad = completer(root, Oracle(fails=lambda r: r.call.messages[0]["content"] == "3"))
    rows = bad(STEP, [call(str(i)) for i in range(5)])
    assert [r.status for r in rows] == ["generated"] * 3 + ["failed", "generated"]
    assert (rows[3].text, rows[3].error) == (None, "failed on purpose")
    good = completer(root, engine := Oracle())
    assert [r.status for r in good(STEP, [call(str(i)) for i in range(5)])].count("generated") == 1
    assert engine.calls[0].call.messages[0]["content"] == "3"


def test_a_dying_engine_keeps_what_it_finished(root: DataRoot) -> None:
    calls = [call(str(i)) for i in range(10)]
    with pytest.raises(RuntimeError, match="died"):
        completer(root, Oracle(dies_after=7))(STEP, calls)
    rest = completer(root, engine := Oracle())
    rest(STEP, calls)
    assert len(engine.calls) == 3


def test_another_model_or_step_or_seed_reuses_nothing(root: DataRoot) -> None:
    store = RowStore(Layout(root))
    Completer(Oracle(), store, seed=0)(STEP, [call("x")])
    for engine, step, seed in ((Oracle("other"), STEP, 0), (Oracle(), Step("respond", 2), 0), (Oracle(), STEP, 1)):
        Completer(engine, store, seed=seed)(step, [call("x")])
        assert len(engine.calls) == 1


def test_progress_lines_have_rate_and_time_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines: list[str] = []
    now = [0.0]
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: now[0]))

    class Slow(Oracle):
        def run(self, requests: Iterable[Request]) -> Iterator[Result]:
            for result in super().run(requests):
                now[0] += 2 * progress.BURST
                yield result

    for engine in (Slow(), Oracle("quick")):
        Completer(engine, RowStore(Layout(tmp_path)), seed=0, log=lines.append)(STEP, [call("x"), call("y")])
    slow, quick = lines
    assert all(word in slow for word in ("2/2 rows", "tokens/s", "left"))
    assert quick == "respond: 2/2 rows"  # one burst has no rate
