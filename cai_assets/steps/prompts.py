"""Load prompts from files and select those that take part.

Guarantee: every row read is accounted for (read = kept + duplicates + rejected), each with its place; no training
prompt is equal or nearly equal (``prompt_near``) to an evaluation prompt; a ``prompt_id`` names one text. Of such a
training and evaluation prompt the latter stays, unless red-teaming found the former (it has an ``origin``): a prompt
that a policy is trained on because it broke one measures nothing any more.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import polars as pl

from cai_assets.lineage.origins import ORIGINS
from cai_assets.reading.faults import DataError, RowFault, printable
from cai_assets.reading.files import Raw, RowReader
from cai_assets.settings import Prompts
from cai_assets.settings.columns import NO_MAP, Columns
from cai_assets.steps.prompt_near import Indices, Near
from cai_assets.steps.prompt_rows import COLUMNS, Prompt, check_row, excerpt, hash_of
from cai_assets.steps.reasons import reason_line
from cai_assets.steps.tables import table
from cai_assets.store.canonical import canonical_json, digest_bytes, tagged_hash

BUNDLED = Path(__file__).parent.parent / "data" / "prompts.jsonl"
PLACE: dict[str, pl.DataType] = {"source": pl.String(), "line": pl.Int64()}
SCHEMA = pl.Schema({
    "prompt_id": pl.String(), "kind": pl.String(), "category": pl.String(), "split": pl.String(),
    "messages": pl.List(pl.Struct({"role": pl.String(), "content": pl.String()})), **PLACE,
})
REJECTS = pl.Schema({**PLACE, "reason": pl.String(), "excerpt": pl.String()})
DUPLICATES = pl.Schema({**PLACE, "prompt_id": pl.String(), "reason": pl.String()})

PromptKind = Literal["red-team", "helpful"]
Dropped = list[tuple[str, int, str, str]]


@dataclass(frozen=True)
class Counts:
    """Rows by fate. ``flagged`` counts remarks on kept rows: 'near-duplicates' (of an earlier kept row in the
    same split), 'chat-markers', 'unknown-kind', 'unknown-split', 'unknown-origin'."""

    read: int
    kept: int
    duplicates: int
    rejected: int
    flagged: dict[str, int]


@dataclass(frozen=True)
class Loaded:
    """``frame`` (SCHEMA) holds the kept rows in the order read; ``rejects`` and ``duplicates`` the others. ``origins``
    (ORIGINS) has a row for each kept prompt that red-teaming found. ``notes`` names files that gave no row.

    A duplicate names the prompt it repeats, which is kept or itself in ``duplicates``;
    ``rejects.excerpt`` is safe to print.
    """

    frame: pl.DataFrame
    rejects: pl.DataFrame
    duplicates: pl.DataFrame
    origins: pl.DataFrame
    counts: Counts
    notes: tuple[str, ...] = ()


def load_prompts(
    paths: Sequence[Path] = (), *, max_chars: int, kind: PromptKind = "red-team", columns: Columns = NO_MAP,
    repeats: bool = True,
) -> Loaded:
    """Load every row of ``paths`` (files and folders, docs/data.md); without paths, the bundled sample.

    ``max_chars`` bounds a prompt's characters over all its turns. ``kind`` is what a row is when neither it nor
    its file name says; ``columns``, where its values are. ``repeats``: count the near repeats that stay, which
    takes most of the time. Raise DataError for a file that cannot be read at all.
    """
    rejects: Dropped = []
    duplicates: Dropped = []
    reader = RowReader(paths or (BUNDLED,), COLUMNS, columns)
    good = _unique_ids(_checked(reader, max_chars, kind, columns, rejects), rejects)
    distinct = _distinct(good, duplicates)
    near = Near([p.text for p in distinct])
    stay = _apart(distinct, near, duplicates)
    kept = [distinct[i] for i in stay]
    flagged = Counter(flag for p in kept for flag in p.flags)
    if repeats:
        flagged["near-duplicates"] = _repeats(distinct, near, stay)
    counts = Counts(read=len(kept) + len(duplicates) + len(rejects), kept=len(kept), duplicates=len(duplicates),
                    rejected=len(rejects), flagged=dict(flagged))
    return Loaded(
        frame=table(({c: getattr(p, c) for c in SCHEMA} for p in kept), SCHEMA),
        rejects=pl.DataFrame(rejects, schema=REJECTS, orient="row").sort("source", "line", maintain_order=True),
        duplicates=pl.DataFrame(duplicates, schema=DUPLICATES, orient="row"),
        origins=pl.DataFrame([(p.prompt_id, *p.origin) for p in kept if p.origin], schema=ORIGINS, orient="row"),
        counts=counts, notes=tuple(reader.notes),
    )


def refuse_empty(loaded: Loaded) -> None:
    """Raise DataError, with what became of the rows read, unless there are prompts in both splits."""
    counts = loaded.counts
    why = "; ".join(filter(None, (
        reason_line(counts.rejected, counts.read, "rows rejected", loaded.rejects["reason"]), *loaded.notes)))
    if not counts.kept:
        raise DataError(f"no usable prompt: {why or 'no rows in the files'}")
    splits = set(loaded.frame["split"])
    for split, what in (("train", "training prompt"), ("evaluation", "evaluation prompt")):
        if split not in splits:
            raise DataError(f"no {what}: all {counts.kept} usable prompts are in the other split ({counts.read} "
                               f"rows read, {counts.duplicates} duplicates); set 'split' of some, or add files"
                               + (f"; {why}" if why else ""))


def select(frame: pl.DataFrame, settings: Prompts, *, seed: int, first: Collection[str] = ()) -> pl.DataFrame:
    """Draw at most as many prompts of each kind and split as ``settings`` says, sorted by ``prompt_id``.

    Each prompt has its own draw, a hash of its id and the seed, and the lowest win: raising a limit only adds
    prompts, and a new prompt takes at most one place. Prompts whose ids are in ``first`` come before all others.
    """
    limits = {
        ("red-team", "train"): settings.red_team, ("red-team", "evaluation"): settings.eval_red_team,
        ("helpful", "train"): settings.helpful, ("helpful", "evaluation"): settings.eval_helpful,
    }
    draws = pl.Series("draw", [tagged_hash("draw", [seed, i]) for i in frame["prompt_id"]], dtype=pl.String)
    later = ~pl.col("prompt_id").is_in(list(first))
    drawn = frame.with_columns(draws).sort(later, "draw")
    parts = [drawn.filter(kind=kind, split=split).head(n) for (kind, split), n in limits.items()]
    return pl.concat(parts).drop("draw").sort("prompt_id")


def _checked(raws: Iterable[Raw], max_chars: int, kind: str, columns: Columns, rejects: Dropped) -> Iterable[Prompt]:
    for raw in raws:
        try:
            yield check_row(raw, max_chars=max_chars, kind=kind, columns=columns)
        except RowFault as fault:
            rejects.append((raw.source, raw.line, str(fault), excerpt(raw)))


def _unique_ids(prompts: Iterable[Prompt], rejects: Dropped) -> list[Prompt]:
    """An id of one file that names another text in an earlier file gets a hash of its own text."""
    first: dict[str, Prompt] = {}
    out = []
    for read in prompts:
        p = _apart_by_file(read, first.get(read.prompt_id))
        owner = first.setdefault(p.prompt_id, p)
        if owner.messages == p.messages:
            out.append(p)
        else:
            reason = f"id '{p.prompt_id}' already names another text ({owner.source} line {owner.line})"
            rejects.append((p.source, p.line, reason, printable(p.messages[-1]["content"][:200])[:200]))
    return out


def _apart_by_file(p: Prompt, owner: Prompt | None) -> Prompt:
    if owner is None or owner.source == p.source or owner.messages == p.messages:
        return p
    return replace(p, prompt_id=f"{p.prompt_id[:46]}-{hash_of(p.messages)}")


def _distinct(prompts: Sequence[Prompt], duplicates: Dropped) -> list[Prompt]:
    """Keep one prompt of each text: the first for evaluation if there is one, else the first; but if any of them has an
    origin, the first for training, with that origin."""
    keys = [digest_bytes(canonical_json(p.messages)) for p in prompts]
    origins = {key: p.origin for key, p in zip(reversed(keys), reversed(prompts), strict=True) if p.origin}
    winner: dict[bytes, Prompt] = {}
    for key, p in zip(keys, prompts, strict=True):
        if winner.setdefault(key, p).split != p.split == ("train" if key in origins else "evaluation"):
            winner[key] = p
    for key, p in zip(keys, prompts, strict=True):
        if winner[key] is not p:
            duplicates.append((p.source, p.line, winner[key].prompt_id, "same text"))
    return [replace(p, origin=origins[key]) if key in origins else p
            for key, p in zip(keys, prompts, strict=True) if winner[key] is p]


def _apart(prompts: Sequence[Prompt], near: Near, duplicates: Dropped) -> Indices:
    """Those that stay, without evaluation prompts near a training prompt with an origin, and other training prompts
    near an evaluation prompt that stays."""
    held_out = np.array([p.split == "evaluation" for p in prompts], dtype=bool)
    near_pairs = near.across(np.array([p.origin is not None for p in prompts], dtype=bool))
    trained = {i: of for i, of in near_pairs.items() if held_out[i]}
    stays = held_out & ~np.isin(np.arange(len(prompts)), list(trained))
    copies = {i: of for i, of in near.across(stays).items() if not held_out[i]}
    for reason, dropped in (("nearly the same text as a training prompt that red-teaming found", trained),
                            ("nearly the same text as an evaluation prompt", copies)):
        duplicates.extend((prompts[i].source, prompts[i].line, prompts[of].prompt_id, reason)
                          for i, of in dropped.items())
    return np.array([i for i in range(len(prompts)) if i not in copies and i not in trained], dtype=np.intp)


def _repeats(prompts: Sequence[Prompt], near: Near, stay: Indices) -> int:
    """How many of those that stay are near to an earlier one of their split."""
    held_out = np.array([prompts[i].split == "evaluation" for i in stay], dtype=bool)
    return sum(len(near.repeats(stay[held_out == split])) for split in (False, True))
