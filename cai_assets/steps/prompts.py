"""Load prompts from files and select those that take part.

Guarantee: every row read is accounted for (read = kept + duplicates + rejected), each with its place; no training
prompt is equal or nearly equal (``prompt_near``) to an evaluation prompt; a ``prompt_id`` names one text.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import polars as pl

from cai_assets.lineage.canonical import canonical_json, tagged_hash
from cai_assets.settings import Prompts
from cai_assets.steps.prompt_files import Raw, RowFault, printable, read_files
from cai_assets.steps.prompt_near import Near
from cai_assets.steps.prompt_rows import Prompt, check_row, excerpt

BUNDLED = Path(__file__).parent.parent / "data" / "prompts.jsonl"
PLACE: dict[str, pl.DataType] = {"source": pl.String(), "line": pl.Int64()}
SCHEMA = pl.Schema({
    "prompt_id": pl.String(), "kind": pl.String(), "category": pl.String(), "split": pl.String(),
    "messages": pl.List(pl.Struct({"role": pl.String(), "content": pl.String()})), **PLACE,
})
REJECTS = pl.Schema({**PLACE, "reason": pl.String(), "excerpt": pl.String()})
DUPLICATES = pl.Schema({**PLACE, "prompt_id": pl.String(), "reason": pl.String()})

Kind = Literal["red-team", "helpful"]
Dropped = list[tuple[str, int, str, str]]


@dataclass(frozen=True)
class Counts:
    """Rows by fate. ``flagged`` counts remarks on kept rows: 'near-duplicates' (of an earlier kept row in the
    same split), 'chat-markers', 'unknown-kind', 'unknown-split'."""

    read: int
    kept: int
    duplicates: int
    rejected: int
    flagged: dict[str, int]

    @property
    def near_duplicates(self) -> int:
        return self.flagged.get("near-duplicates", 0)


@dataclass(frozen=True)
class Loaded:
    """``frame`` (SCHEMA) holds the kept rows in the order read; ``rejects`` and ``duplicates`` the others.

    A duplicate names the prompt it repeats, which is kept or itself in ``duplicates``;
    ``rejects.excerpt`` is safe to print.
    """

    frame: pl.DataFrame
    rejects: pl.DataFrame
    duplicates: pl.DataFrame
    counts: Counts


def load_prompts(paths: Sequence[Path] = (), *, max_chars: int, kind: Kind = "red-team") -> Loaded:
    """Load every row of ``paths`` (JSONL, Parquet or data set folders); without paths, the bundled sample.

    ``max_chars`` bounds a prompt's characters over all its turns. ``kind`` is what a row is when neither it nor
    its file name says. Raise PromptsError for a file that cannot be read at all.
    """
    rejects: Dropped = []
    duplicates: Dropped = []
    good = _unique_ids(_checked(read_files(paths or (BUNDLED,)), max_chars, kind, rejects), rejects)
    distinct = _distinct(good, duplicates)
    kept, near = _apart(distinct, duplicates)
    flagged = Counter(flag for p in kept for flag in p.flags)
    counts = Counts(read=len(kept) + len(duplicates) + len(rejects), kept=len(kept), duplicates=len(duplicates),
                    rejected=len(rejects), flagged={**flagged, "near-duplicates": near})
    return Loaded(
        frame=pl.DataFrame([{c: getattr(p, c) for c in SCHEMA} for p in kept], schema=SCHEMA),
        rejects=pl.DataFrame(rejects, schema=REJECTS, orient="row").sort("source", "line", maintain_order=True),
        duplicates=pl.DataFrame(duplicates, schema=DUPLICATES, orient="row"),
        counts=counts,
    )


def select(frame: pl.DataFrame, settings: Prompts, *, seed: int) -> pl.DataFrame:
    """Draw at most as many prompts of each kind and split as ``settings`` says, sorted by ``prompt_id``.

    Each prompt has its own draw, a hash of its id and the seed, and the lowest win: raising a limit only adds
    prompts, and a new prompt takes at most one place.
    """
    limits = {
        ("red-team", "train"): settings.red_team, ("red-team", "evaluation"): settings.eval_red_team,
        ("helpful", "train"): settings.helpful, ("helpful", "evaluation"): settings.eval_helpful,
    }
    draws = pl.Series("draw", [tagged_hash("draw", [seed, i]) for i in frame["prompt_id"]], dtype=pl.String)
    drawn = frame.with_columns(draws).sort("draw")
    parts = [drawn.filter(kind=kind, split=split).head(n) for (kind, split), n in limits.items()]
    return pl.concat(parts).drop("draw").sort("prompt_id")


def _checked(raws: Iterable[Raw], max_chars: int, kind: str, rejects: Dropped) -> Iterable[Prompt]:
    for raw in raws:
        try:
            yield check_row(raw, max_chars=max_chars, kind=kind)
        except RowFault as fault:
            rejects.append((raw.source, raw.line, str(fault), excerpt(raw)))


def _unique_ids(prompts: Iterable[Prompt], rejects: Dropped) -> list[Prompt]:
    first: dict[str, Prompt] = {}
    out = []
    for p in prompts:
        owner = first.setdefault(p.prompt_id, p)
        if owner.messages == p.messages:
            out.append(p)
        else:
            reason = f"id '{p.prompt_id}' already names another text ({owner.source} line {owner.line})"
            rejects.append((p.source, p.line, reason, printable(p.messages[-1]["content"][:200])[:200]))
    return out


def _distinct(prompts: Sequence[Prompt], duplicates: Dropped) -> list[Prompt]:
    """Keep one prompt of each text: the first for evaluation if there is one, else the first."""
    keys = [canonical_json(p.messages) for p in prompts]
    winner: dict[str, Prompt] = {}
    for key, p in zip(keys, prompts, strict=True):
        if winner.setdefault(key, p).split == "train" and p.split == "evaluation":
            winner[key] = p
    for key, p in zip(keys, prompts, strict=True):
        if winner[key] is not p:
            duplicates.append((p.source, p.line, winner[key].prompt_id, "same text"))
    return [p for key, p in zip(keys, prompts, strict=True) if winner[key] is p]


def _apart(prompts: Sequence[Prompt], duplicates: Dropped) -> tuple[list[Prompt], int]:
    """Drop training prompts near an evaluation prompt; count the near repeats that stay within a split."""
    near = Near([p.text for p in prompts])
    held_out = np.array([p.split == "evaluation" for p in prompts], dtype=bool)
    copies = near.across(held_out)
    for i, of in copies.items():
        reason = "nearly the same text as an evaluation prompt"
        duplicates.append((prompts[i].source, prompts[i].line, prompts[of].prompt_id, reason))
    kept = np.array([i for i in range(len(prompts)) if i not in copies], dtype=np.intp)
    repeats = sum(len(near.repeats(kept[held_out[kept] == split])) for split in (False, True))
    return [prompts[i] for i in kept], repeats
