"""Counts and verification of the row store. Neither changes anything."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

import polars as pl

from cai_assets.store.answers import unanswered
from cai_assets.store.files import TEMPORARY, WRITING
from cai_assets.store.keys import payload_key
from cai_assets.store.layout import Layout
from cai_assets.store.parquet import FileGone, StoreCorrupt, open_parquet
from cai_assets.store.row_store import SCHEMA, list_shards, read_shard

DAY = 86400.0
SMALL_ROWS = 10_000
# 10^6 rows as written are 2,000 small shards. Fetching rows then takes 2.3 times as long as compacted (8.2 s, 3.6 s:
# docs/experiments.md), and a run looks up ten times or so; below that, compaction costs more than it saves.
SMALL_SHARDS = 2000
ELSEWHERE = [f"{place}{TEMPORARY}" for place in ("", "constitutions/", "models/", "reports/**/", "checkpoints/*/")]
CREATED = list(SCHEMA).index("created")
NO_ANSWER = "hold no answer"
ASK = "materialize what needs them, which asks again, then remove them with 'cai store gc --apply' a day later"


class StepStats(NamedTuple):
    """``bytes`` on disk; ``small``: shards under SMALL_ROWS; ``oldest``, ``newest``: when rows were made, if any;
    ``unanswered``: rows that hold no answer (``answers.py``)."""

    step: str
    rows: int
    shards: int
    small: int
    bytes: int
    oldest: datetime | None
    newest: datetime | None
    unanswered: int = 0

    @property
    def compaction_advised(self) -> bool:
        """There are so many small shards that opening them dominates a look-up."""
        return self.small >= SMALL_SHARDS


def steps(layout: Layout) -> list[str]:
    """Steps that have a folder in the row store."""
    return list(layout.storage.folders("rows"))


def stats(layout: Layout) -> list[StepStats]:
    """Counts of each step, from the shards' footers and log-probabilities. Raise StoreCorrupt if one cannot be read."""
    return [_step_stats(step, list_shards(layout.local("rows", step))) for step in steps(layout)]


def _step_stats(step: str, shards: Sequence[Path]) -> StepStats:
    rows, times = [], []
    for shard in shards:
        with open_parquet(shard) as file:
            rows.append(file.metadata.num_rows)
            columns = [file.metadata.row_group(i).column(CREATED).statistics for i in range(file.num_row_groups)]
            times += [t for m in columns for t in (m.min, m.max)]
    return StepStats(step, sum(rows), len(shards), sum(n < SMALL_ROWS for n in rows),
                     sum(p.stat().st_size for p in shards), min(times, default=None), max(times, default=None),
                     sum(len(unanswered(read_shard(p, ["row_key", "logprobs"]))) for p in shards))


def verify(layout: Layout) -> list[str]:
    """Read every row back; return what is wrong, with the file: damage, a key that is not its payload's, a row without
    an answer, torn files.

    Changes nothing. Memory: one shard.
    """
    problems = []
    for step in steps(layout):
        for shard in list_shards(layout.local("rows", step)):
            try:
                rows = read_shard(shard, list(SCHEMA))
                problems += [*_wrong_keys(shard, rows), *_no_answers(shard, rows)]
            except FileGone:
                continue  # compacted meanwhile
            except StoreCorrupt as e:
                problems.append(str(e))
    return problems + [f"{p} is an unfinished file older than a day; cai store gc removes it"
                       for p in unfinished(layout, DAY)]


def _wrong_keys(shard: Path, rows: pl.DataFrame) -> list[str]:
    wrong = [key for key, payload in rows.select("row_key", "payload").iter_rows() if key != payload_key(payload)]
    if not wrong:
        return []
    return [f"{shard}: {len(wrong)} of {rows.height} rows have a key that is not their payload's, first {wrong[0]}"]


def _no_answers(shard: Path, rows: pl.DataFrame) -> list[str]:
    if not (none := unanswered(rows)):
        return []
    key, why = next(iter(none.items()))
    return [f"{shard}: {len(none)} of {rows.height} rows {NO_ANSWER}, first {key}: {why}. They are never used: {ASK}"]


def unfinished(layout: Layout, age: float) -> list[Path]:
    """Files and folders that a writer did not finish, older than ``age`` seconds."""
    paths = [p for name in ("rows", "tables", "records") for p in layout.path(name).rglob(TEMPORARY)]
    paths += [p for places in ELSEWHERE for p in layout.path().glob(places) if WRITING.fullmatch(p.name)]
    return [p for p in sorted(paths) if newest(p) < time.time() - age]


def newest(path: Path) -> float:
    """When a file, or any in a folder, was changed last (seconds since 1970); never, if it is gone meanwhile."""
    try:
        times: list[float] = [p.stat().st_mtime for p in [path, *(path.rglob("*") if path.is_dir() else ())]]
    except FileNotFoundError:  # its writer is at work
        return math.inf
    return max(times)
