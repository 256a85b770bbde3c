"""General conversations mixed into the supervised data by share.

Guarantees: which rows of a file take part is decided by a hash of the seed and the row's content, so that raising a
share only adds rows and the order of a file does not count; no row is repeated, and a file that has too few says so;
no row is mixed in whose prompt, or a turn of it, is equal or nearly equal (``prompt_near``) to an evaluation prompt.
Rows that cannot be used are counted with their reason.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np

from cai_assets.engines.protocol import Message
from cai_assets.reading.faults import RowFault
from cai_assets.reading.files import Raw, RowReader
from cai_assets.reading.names import split_of_name
from cai_assets.reading.rows import ANSWERS, BAD_IF_FALSE, PROMPT_COLUMNS, conversation_of, fields_of
from cai_assets.settings.base import Source
from cai_assets.settings.columns import NO_MAP, Columns
from cai_assets.steps.prompt_near import Near
from cai_assets.steps.prompt_rows import check_row, check_text, normalize
from cai_assets.steps.reasons import tally
from cai_assets.store.canonical import tagged_hash
from cai_assets.store.keys import row_id

CHUNK = 1000


class Conversation(NamedTuple):
    """A prompt and its answer. ``place``: file and line; ``rank``: its place in the draw."""

    prompt_id: str
    messages: tuple[Message, ...]
    response: str
    place: str
    rank: str


@dataclass(frozen=True)
class Report:
    """The result for one file: ``rows`` of the ``wanted`` are mixed in, and are the share ``reached`` of the whole."""

    file: str
    share: float
    reached: float
    rows: int
    wanted: int
    read: int
    usable: int
    duplicates: int
    near_evaluation: int
    rejected: Mapping[str, int]
    notes: tuple[str, ...] = ()

    @property
    def warning(self) -> str | None:
        """Set if the file has too few rows."""
        if self.rows == self.wanted:
            return None
        return (f"{self.file} has {self.rows} usable rows, which are {self.reached:.1%} of the whole and not "
                f"{self.share:.1%}: no row is repeated; give a larger file or a smaller share")


class Amount(NamedTuple):
    """How many rows to take, and how many the share asks for: more, if there are too few."""

    take: int
    wanted: int


@dataclass
class Pool:
    """The usable rows of one file, in the order in which they are drawn."""

    source: Source
    rows: list[Conversation] = field(default_factory=list)
    read: int = 0
    duplicates: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    near: int = 0
    notes: tuple[str, ...] = ()


class Mixed(NamedTuple):
    rows: list[Conversation]
    reports: tuple[Report, ...]


def mix(
    sources: Sequence[Source], own: int, evaluation: Sequence[Sequence[Message]], *, seed: int, max_chars: int
) -> Mixed:
    """Rows of each source that make it its share of the whole, ``own`` other rows included.

    ``evaluation``: prompts that no row may be near to. ``max_chars`` bounds a prompt, and an answer. Raise
    DataError for a file that cannot be read at all.
    """
    seen: set[str] = set()
    pools = [_pool(s, seen, seed=seed, max_chars=max_chars) for s in sources]
    most = own / (1 - sum(s.share for s in sources))
    held_out = [text for messages in evaluation for text in texts_of(messages)]
    for pool in pools:
        _keep_apart(pool, held_out, round(pool.source.share * most))
    taken = amounts(own, [(p.source.share, len(p.rows)) for p in pools])
    whole = own + sum(n.take for n in taken)
    reports = tuple(_report(p, n, whole) for p, n in zip(pools, taken, strict=True))
    return Mixed([row for p, n in zip(pools, taken, strict=True) for row in p.rows[: n.take]], reports)


def amounts(own: int, sources: Sequence[tuple[float, int]]) -> list[Amount]:
    """What to take of each (share, rows it has), so that each is its share of the whole or is used up."""
    fixed, free = float(own), sum(share for share, _ in sources)
    whole = fixed / (1 - free)
    for share, has in sorted(sources, key=lambda s: s[1] / s[0]):  # the one that is used up first comes first
        if has >= share * whole:
            break
        fixed, free = fixed + has, free - share
        whole = fixed / (1 - free)
    return [Amount(min(has, round(share * whole)), round(share * whole)) for share, has in sources]


def conversation(raw: Raw, *, max_chars: int, columns: Columns = NO_MAP) -> tuple[tuple[Message, ...], str]:
    """The prompt's turns and the answer of a row; raise RowFault, with the reason, if it cannot be trained on."""
    row = fields_of(raw.value, columns, "'messages', or with 'prompt' and 'response'")
    if "evaluation" in (raw.split, split_of_name(str(row.get("split") or ""))):
        raise RowFault("its split is for evaluation")
    turns, answer = conversation_of(row)
    messages = check_row(replace(raw, value={"messages": list(turns)}), max_chars=max_chars, kind="helpful").messages
    try:
        check_text(answer)
    except RowFault as fault:
        raise RowFault(f"the answer: {fault}") from None
    if len(answer) > max_chars:
        raise RowFault(f"the answer is too long: {len(answer):,} characters, the limit is {max_chars:,} "
                       "(prompts.max_chars)")
    return messages, answer


def _pool(source: Source, seen: set[str], *, seed: int, max_chars: int) -> Pool:
    pool = Pool(source)
    reader = RowReader([source.path], {*PROMPT_COLUMNS, *ANSWERS, *BAD_IF_FALSE, "id", "split"}, source.columns)
    for raw in reader:
        pool.read += 1
        try:
            messages, answer = conversation(raw, max_chars=max_chars, columns=source.columns)
        except RowFault as fault:
            pool.rejected[str(fault)] += 1
            continue
        name = "general-" + tagged_hash("general", [list(messages), answer]).rpartition(":")[2][:16]
        if name in seen:
            pool.duplicates += 1
            continue
        seen.add(name)
        pool.rows.append(Conversation(name, messages, answer, f"{raw.source}:{raw.line}",
                                      tagged_hash("mix", [seed, name])))
    pool.rows.sort(key=lambda r: r.rank)
    pool.notes = tuple(reader.notes)
    return pool


def _keep_apart(pool: Pool, held_out: Sequence[str], wanted: int) -> None:
    """Drop rows near a held-out text, as far down the draw as ``wanted`` rows need."""
    kept: list[Conversation] = []
    for start in range(0, len(pool.rows), CHUNK):
        if len(kept) >= wanted:
            kept += pool.rows[start:]
            break
        chunk = pool.rows[start : start + CHUNK]
        bad = set(_near(chunk, held_out))
        pool.near += len(bad)
        kept += [row for i, row in enumerate(chunk) if i not in bad]
    pool.rows = kept


def _near(rows: Sequence[Conversation], held_out: Sequence[str]) -> Iterator[int]:
    owners = [(i, text) for i, row in enumerate(rows) for text in texts_of(row.messages)]
    mask = np.array([True] * len(held_out) + [False] * len(owners), dtype=bool)
    hits = Near([*held_out, *(text for _, text in owners)]).across(mask) if held_out else {}
    yield from (owners[hit - len(held_out)][0] for hit in hits)


def texts_of(messages: Sequence[Message]) -> list[str]:
    """What of a training prompt no evaluation prompt may be near, normalized: each turn by the user, and all turns."""
    turns = [m["content"] for m in messages if m["role"] == "user"]
    whole = [m["content"] for m in messages if m["role"] != "system"]
    return [normalize(text) for text in dict.fromkeys([*turns, "\n".join(whole)])]


def _report(pool: Pool, amount: Amount, whole: int) -> Report:
    return Report(file=pool.source.path.name, share=pool.source.share, reached=amount.take / max(whole, 1),
                  rows=amount.take, wanted=amount.wanted, read=pool.read, usable=len(pool.rows),
                  duplicates=pool.duplicates, near_evaluation=pool.near, rejected=tally(pool.rejected),
                  notes=pool.notes)


def as_rows(conversations: Sequence[Conversation]) -> list[dict[str, object]]:
    """Rows of the SL data set."""
    return [{"prompt_id": c.prompt_id, "kind": "general", "round": 0, "principle_id": None,
             "messages": list(c.messages), "response": c.response, "finish": "", "source": c.place,
             "row_id": row_id("general", c.response, [c.prompt_id])} for c in conversations]
