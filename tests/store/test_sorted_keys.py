"""Row keys in order: what is found is what was put in, wherever and in however many runs it lies."""

from __future__ import annotations

import os
import random
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from cai_assets.store import row_store, sorted_keys
from cai_assets.store.layout import Layout
from cai_assets.store.row_store import RowStore, StoredRow
from cai_assets.store.sorted_keys import find, run_of, with_run


def full(*_: int) -> None:
    raise OSError(28, "No space left on device")


@pytest.mark.parametrize("mapped", [1, 300, 10**9])
@pytest.mark.parametrize("room", [True, False])
def test_every_place_of_a_key_is_found_the_earliest_first(
    mapped: int, room: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sorted_keys, "MAPPED", mapped)
    if not room:
        monkeypatch.setattr(os, "posix_fallocate", full)
    rng, runs, wanted = random.Random(mapped), (), dict[int, list[tuple[int, int]]]()
    for shard in range(60):
        some = [rng.getrandbits(64), 0, 2**64 - 1, rng.randrange(50) << 58]
        keys = [rng.choice(some) if rng.random() < 0.3 else rng.getrandbits(64) for _ in range(rng.randrange(40))]
        for position, key in enumerate(keys):
            wanted.setdefault(key, []).append((shard, position))
        places = np.array([(shard, i) for i in range(len(keys))], dtype=np.uint32).reshape(-1, 2)
        runs = with_run(runs, run_of(np.array(keys, dtype=np.uint64), places))
    sizes = [len(run.digits) for run in runs]
    assert all(a >= 2 * b for a, b in pairwise(sizes))
    assert sum(sizes) == sum(map(len, wanted.values()))
    asked = [*wanted, 7, 2**63 + 1]
    found: dict[int, list[tuple[int, int]]] = {}
    for i, shard, position in find(runs, np.array(asked, dtype=np.uint64)):
        found.setdefault(asked[i], []).append((shard, position))
    assert {key: sorted(places) for key, places in found.items()} == wanted


def test_a_store_whose_index_lies_in_files_finds_what_another_finds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sorted_keys, "MAPPED", 16)
    monkeypatch.setattr(row_store, "KEYS_AT_ONCE", 7)
    store = RowStore(Layout(tmp_path))
    index, keys = store.index("step"), [f"r1:{i * 0x9E3779B97F4A7C15 % 2**128:032x}" for i in range(200)]
    for start in range(0, 200, 20):
        with store.writer("step") as writer:
            for key in keys[start:start + 20]:
                writer.add(StoredRow(key, "{}", f"text of {key}", "stop", [], 1, 1))
        index.update()
        there = index.lookup(keys)
        assert {key: row.text for key, row in there.items()} == {key: f"text of {key}" for key in keys[:start + 20]}
    assert index.rows == store.index("step").rows == 200
    assert store.index("step").lookup(keys) == store.lookup("step", keys, payload=False)
