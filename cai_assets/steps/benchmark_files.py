"""Read benchmarks of judges, as files: rows whose right answer is known, and where a judge by looks goes wrong.

Shapes, told by the row itself: *best of several* (RewardBench 2, Malik et al. 2025, arXiv 2506.01937: one chosen text
and several rejected), *ties* (the same: several right ones), *styles* (RM-Bench, Liu et al. 2024, arXiv 2410.16184: as
many chosen as rejected texts, each in the same styles from plain to showy), *pairs* (JudgeBench, Tan et al. 2024, arXiv
2410.12784, and whatever ``comparison_files`` reads), and *ladder* (texts from best to worst, such as answers that were
degraded step by step). Guarantee: every row read is a task or a reject with its place and reason.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Literal, NamedTuple

import polars as pl

from cai_assets.engines.protocol import Message
from cai_assets.reading.faults import RowFault
from cai_assets.reading.files import Raw, RowReader
from cai_assets.reading.replies import preferences_of
from cai_assets.reading.rows import fields_of, prompt_of
from cai_assets.settings.columns import NO_MAP
from cai_assets.steps.comparison_files import COLUMNS as COMPARISON_COLUMNS
from cai_assets.steps.prompt_rows import check_row, check_text, excerpt
from cai_assets.steps.prompts import REJECTS
from cai_assets.steps.reasons import tally
from cai_assets.store.canonical import tagged_hash

Kind = Literal["pair", "best", "ties", "styles", "ladder"]
Stratum = Literal["", "easy", "normal", "hard", "equal"]
CATEGORY = ("subset", "domain", "source", "category")
COLUMNS = {*COMPARISON_COLUMNS, *CATEGORY, "ladder", "pair_id"}
WITHOUT = "all"  # the category of rows that name none
MOST = 40  # comparisons of one row


class Match(NamedTuple):
    """Two texts, the first of which is the better one. ``stratum``: of styles, whether looks speak for it ('easy'),
    for neither, or against it ('hard'); 'equal': of ties, both are right. ``places``: of the texts, in their lists."""

    better: str
    worse: str
    stratum: Stratum
    places: tuple[int, int]


@dataclass(frozen=True)
class Task:
    """A row. ``texts``: how many a best-of or ladder row has."""

    task_id: str
    kind: Kind
    category: str
    messages: tuple[Message, ...]
    matches: tuple[Match, ...]
    texts: int


@dataclass(frozen=True)
class Benchmark:
    """A file. ``tasks``: in the order of their ids, which are hashes of the texts; ``rejects``: place, reason, excerpt;
    ``notes`` names files that gave no row."""

    name: str
    tasks: tuple[Task, ...]
    rejects: pl.DataFrame
    notes: tuple[str, ...] = ()

    @property
    def left_out(self) -> dict[str, int]:
        """How many rejects have each reason."""
        return tally(self.rejects["reason"])


def read_benchmark(path: Path, *, limit: int) -> Benchmark:
    """At most ``limit`` tasks of a file or folder, drawn by their hashes: always the same ones. Raise DataError for a
    file that cannot be read at all."""
    tasks: dict[str, Task] = {}
    rejects, reader = [], RowReader([path], COLUMNS, NO_MAP)
    for raw in reader:
        try:
            task = _task(raw)
            if task.task_id in tasks:
                raise RowFault("repeats an earlier row")
        except RowFault as fault:
            rejects.append((raw.source, raw.line, str(fault), excerpt(raw)))
        else:
            tasks[task.task_id] = task
    drawn = tuple(tasks[i] for i in sorted(tasks)[:limit])
    return Benchmark(path.stem, drawn, pl.DataFrame(rejects, schema=REJECTS, orient="row"), tuple(reader.notes))


def _task(raw: Raw) -> Task:
    row = fields_of(raw.value, NO_MAP, "'prompt' with 'chosen' and 'rejected', or 'ladder'")
    kind, turns, matches, n = _matches(row)
    if len(matches) > MOST:
        raise RowFault(f"{len(matches)} comparisons in one row; the most are {MOST}")
    for match in matches:
        check_text(match.better)
        check_text(match.worse)
        if match.better == match.worse and match.stratum != "equal":
            raise RowFault("a right and a wrong answer are the same text")
    asked = check_row(Raw(raw.source, raw.line, {"messages": list(turns)}), max_chars=sys.maxsize, kind="helpful")
    category = next((str(row[name]) for name in CATEGORY if isinstance(row.get(name), str) and row[name]), WITHOUT)
    key = tagged_hash("benchmark", [kind, asked.messages, [m[:3] for m in matches]]).rpartition(":")[2][:16]
    return Task(f"b-{key}", kind, category, asked.messages, tuple(matches), n)


def _matches(row: Mapping[str, object]) -> tuple[Kind, tuple[Message, ...], list[Match], int]:
    if row.get("ladder") is not None:
        rungs = _texts(row["ladder"], "ladder", least=2)
        return "ladder", prompt_of(row), [Match(a, b, "", (i, j)) for (i, a), (j, b) in combinations(
            enumerate(rungs), 2)], len(rungs)
    if isinstance(row.get("chosen"), list) and isinstance(row.get("rejected"), list) and all(
            isinstance(text, str) for side in ("chosen", "rejected") for text in row[side]):  # type: ignore[attr-defined]
        right, wrong = (_texts(row[side], side, least=1) for side in ("chosen", "rejected"))
        return _listed(right, wrong, str(row.get("subset")), prompt_of(row))
    (found, *others) = preferences_of(row)
    if others:
        raise RowFault("several comparisons in one row that are no list of texts")
    return "pair", tuple(found.messages), [Match(found.chosen, found.rejected, "", (0, 0))], 2


def _listed(right: list[str], wrong: list[str], subset: str, prompt: tuple[Message, ...]
            ) -> tuple[Kind, tuple[Message, ...], list[Match], int]:
    pairs = [Match(a, b, "", (i, j)) for i, a in enumerate(right) for j, b in enumerate(wrong)]
    if len(right) == 1:
        return "best" if len(wrong) > 1 else "pair", prompt, pairs, 1 + len(wrong)
    if len(right) == len(wrong) and subset.casefold() != "ties":
        strata: tuple[Stratum, ...] = ("hard", "normal", "easy")
        return "styles", prompt, [m._replace(stratum=strata[1 + (m.places[0] > m.places[1]) - (
            m.places[0] < m.places[1])]) for m in pairs], len(right)
    equal = [Match(a, b, "equal", (i, j)) for (i, a), (j, b) in combinations(enumerate(right), 2)]
    return "ties", prompt, [*pairs, *equal], len(right) + len(wrong)


def _texts(value: object, name: str, *, least: int) -> list[str]:
    if not isinstance(value, list) or len(value) < least or not all(isinstance(text, str) for text in value):
        raise RowFault(f"'{name}' must be a list of {least} or more texts")
    return list(value)


def every_match(tasks: tuple[Task, ...]) -> Iterator[tuple[Task, Match]]:
    """The comparisons of all tasks, in order."""
    yield from ((task, match) for task in tasks for match in task.matches)
