"""What is no answer is not stored, not served, named, counted, asked again, and removed once it was."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from cai_assets.engines.protocol import Call
from cai_assets.engines.scripted import Scripted
from cai_assets.lineage.verify.rows import shards
from cai_assets.steps.complete import Completer, Step
from cai_assets.store import row_store as module
from cai_assets.store.answers import no_answer
from cai_assets.store.canonical import canonical_json
from cai_assets.store.compaction import compact
from cai_assets.store.garbage import gc
from cai_assets.store.keys import payload_key
from cai_assets.store.layout import Layout
from cai_assets.store.records import Record, Records
from cai_assets.store.row_store import RowStore, StoredRow
from cai_assets.store.upkeep import stats, verify

pytestmark = pytest.mark.fault("log-probabilities that no model can have given")

STEP = Step("label")
GOOD = (-0.2, -2.0)
NONE = {"nan": (math.nan, -1.0), "infinite": (math.inf, -1.0), "positive": (5.0, -1.0), "stand-in": (-9999.0, -0.1),
        "the second": (-0.1, math.nan), "just positive": (0.01, -9.0)}


def calls(n: int = 3) -> list[Call]:
    return [Call(messages=({"role": "user", "content": f"q{i}"},), answers=("A", "B")) for i in range(n)]


def stored(layout: Layout, logprobs: tuple[float, ...], n: int = 0) -> StoredRow:
    payload = canonical_json({"number": n})
    row = StoredRow(payload_key(payload), payload, "", "score", list(logprobs), 1, 1)
    with RowStore(layout).writer(STEP.name) as writer:
        writer.add(row)
    return row


@pytest.mark.parametrize("logprobs", NONE.values(), ids=NONE)
def test_what_no_model_can_have_said_is_none(logprobs: tuple[float, ...]) -> None:
    assert no_answer(logprobs)


@pytest.mark.parametrize("logprobs", [(), GOOD, (0.0, -9.0), (0.0005, -30.0), (0.0, -math.inf), (-math.inf, -math.inf),
                                      (-300.0, -0.1)])
def test_what_a_model_can_have_said_is_one(logprobs: tuple[float, ...]) -> None:
    assert no_answer(logprobs) is None


@pytest.mark.parametrize("logprobs", NONE.values(), ids=NONE)
def test_whatever_the_engine_it_is_a_failed_row_and_asked_again(logprobs: tuple[float, ...], tmp_path: Path) -> None:
    store = RowStore(Layout(tmp_path))
    broken = Completer(Scripted(score=lambda *_: logprobs), store, seed=0)
    assert {(r.status, r.text) for r in broken(STEP, calls())} == {("failed", None)}
    assert store.keys(STEP.name).is_empty()
    assert broken.usage[STEP.name].errors == {str(no_answer(logprobs)): 3}
    healthy = Completer(Scripted(score=lambda *_: GOOD), store, seed=0)
    assert {(r.status, r.logprobs) for r in healthy(STEP, calls())} == {("generated", GOOD)}


@pytest.mark.parametrize("logprobs", NONE.values(), ids=NONE)
def test_one_that_was_stored_before_is_never_served(
    logprobs: tuple[float, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    layout, good = Layout(tmp_path), stored(Layout(tmp_path), GOOD, n=1)
    bad = stored(layout, logprobs)
    keys = [bad.row_key, good.row_key]
    assert RowStore(layout).lookup(STEP.name, keys) == {good.row_key: good}
    assert [s.unanswered for s in stats(layout)] == [1]
    (problem,) = verify(layout)
    assert "1 of 1 rows hold no answer" in problem
    assert bad.row_key in problem
    assert "cai store gc" in next(shards(layout)).todo
    later = stored(layout, GOOD)
    stored(layout, (-0.3, -2.0))
    for _ in range(2):
        assert RowStore(layout).lookup(STEP.name, keys) == {good.row_key: good, later.row_key: later}
        assert compact(layout, STEP.name, settled=0).after == 1
    assert len(verify(layout)) == 1


def test_it_is_removed_once_its_key_has_an_answer_although_a_record_names_it(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    records, bad = Records(layout), stored(Layout(tmp_path), (math.nan, -1.0))
    digest, path = records.save_table("pairs", pl.DataFrame({"row_key": [bad.row_key]}))
    records.add(Record(asset="pairs", partition=None, digest=digest, path=layout.relative(path),
                       created=datetime.now(UTC) - timedelta(days=9)))
    assert gc(layout, records, apply=True, grace=-1) == []
    answer = stored(layout, GOOD)
    assert [g.rows for g in gc(layout, records, apply=True, grace=-1) if g.kind == "rows"] == [1]
    assert RowStore(layout).lookup(STEP.name, [bad.row_key]) == {bad.row_key: answer}
    assert verify(layout) == []


def test_later_rows_are_read_only_of_keys_without_an_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    layout = Layout(tmp_path)
    rows = [stored(layout, GOOD, n) for n in (0, 1, 1, 1)]
    reads: list[Path] = []
    read = module.read_shard
    monkeypatch.setattr(module, "read_shard", lambda path, *more: reads.append(path) or read(path, *more))  # type: ignore[func-returns-value]
    assert len(RowStore(layout).lookup(STEP.name, [r.row_key for r in rows])) == 2
    assert len(reads) == 2
