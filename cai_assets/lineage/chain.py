"""The chain of a row: from its prompt through every model call that shaped it to what it was trained on.

Guarantees: a chain follows ids alone, and has all of a row's ancestors and descendants and the other response of its
label. To find one, only texts of its prompt's rows are read, and of prompts that it exchanged critiques with, or
was written like.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import polars as pl

from cai_assets.assets import SHAPES, WRITTEN
from cai_assets.errors import CaiError
from cai_assets.lineage.graph import PARENTS, Lookup, Numbers, Places, ancestors, descendants

# Some columns of ROWS, of all rows of a table or of some (sorted positions).
Read = Callable[[Sequence[str], pl.Series | None], pl.DataFrame]


class UnknownRow(CaiError, LookupError):
    """No row, prompt or pair has that id. The message says what is accepted."""

    def __init__(self, target: str) -> None:
        super().__init__(f"no row {target!r} here: give a prompt id, a pair id, or the start of a row id (i1:...) or "
                         "row key (r1:...)")


def around(tables: Sequence[Read], target: str) -> list[pl.Series]:
    """For each table the positions of the rows that a chain of ``target`` may hold. Raise UnknownRow."""
    hits = [matches(read(naming(target), None), target).arg_true() for read in tables]
    if not any(map(len, hits)):
        raise UnknownRow(target)
    prompts = {i for read, at in zip(tables, hits, strict=True) if len(at) for i in _prompts(read, at)}
    likenesses = [pair for read in tables for pair in _likenesses(read)]
    prompts |= {i for pair in likenesses if prompts & {*pair} for i in pair}
    exchanged = {i for read in tables for i in _exchanged(read)}
    # Exchanged critiques tie the prompts of a round into a ring.
    wanted = pl.Series(sorted(prompts | exchanged if prompts & exchanged else prompts), dtype=pl.String).implode()
    same = [read(["prompt_id"], None)["prompt_id"].is_in(wanted).fill_null(False).arg_true() for read in tables]
    return [pl.concat([at, more]).unique().sort() for at, more in zip(hits, same, strict=True)]


def _prompts(read: Read, at: pl.Series) -> list[str]:
    prompts: list[str] = read(["prompt_id"], at)["prompt_id"].drop_nulls().unique().to_list()
    return prompts


def _likenesses(read: Read) -> list[tuple[str, str]]:
    """Written prompts, and the prompt that each was written like."""
    at = (read(["prompt_id", "asset"], None)["asset"] == WRITTEN).arg_true()
    if not len(at):
        return []
    return [(row["prompt_id"], like) for row in read(["prompt_id", "parents"], at).iter_rows(named=True)
            for like in row["parents"]]


def _exchanged(read: Read) -> set[str]:
    """Prompts that answer another one's critique, and those whose critiques they answer."""
    answered = read(["critique_of"], None)["critique_of"]
    if answered.null_count() == len(answered):
        return set()
    pairs = read(["prompt_id"], None).hstack([answered]).filter(pl.col("critique_of") != pl.col("prompt_id"))
    return {*pairs["prompt_id"], *pairs["critique_of"]}


def chain(rows: pl.DataFrame, target: str) -> pl.DataFrame:
    """The whole chain of a row, from its prompt to what it became, in that order; of a prompt or pair, every row.

    ``target``: a row id or row key (or the start of one), a prompt id or a pair id. Raise UnknownRow.
    """
    of_prompt = rows.filter(pl.col("prompt_id") == target)
    if of_prompt.height:
        return in_order(of_prompt)
    start = matches(rows, target).arg_true().to_numpy().astype(np.int32)
    if not len(start):
        raise UnknownRow(target)
    parents = linked(rows)
    # A label's other response belongs to the chain too, so descendants are walked back up.
    whole = ancestors(descendants(start, parents), parents)
    return in_order(rows[whole])


def linked(rows: pl.DataFrame) -> tuple[Places, ...]:
    """Parents by position in ``rows``, as in ``Graph.parents``."""
    numbers = Numbers()
    lookup = Lookup(numbers(rows["row_id"]))
    return tuple(lookup(numbers(rows["parents"].list.get(i, null_on_oob=True))) for i in range(PARENTS))


def naming(target: str) -> list[str]:
    """The columns by which ``matches`` finds a target."""
    return ["row_id"] if target.startswith("i1:") else ["row_keys"] if target.startswith("r1:") else [
        "prompt_id", "pair_id"]


def matches(rows: pl.DataFrame, target: str) -> pl.Series:
    """Which rows a target names: those of a prompt, a pair, or the start of a row id or row key."""
    if target.startswith("i1:"):
        test = pl.col("row_id").str.starts_with(target)
    elif target.startswith("r1:"):
        test = pl.col("row_keys").list.eval(pl.element().str.starts_with(target)).list.any()
    else:
        test = (pl.col("prompt_id") == target).fill_null(False) | (pl.col("pair_id") == target).fill_null(False)
    return rows.select(hit=test.fill_null(False))["hit"]


def in_order(rows: pl.DataFrame) -> pl.DataFrame:
    """Prompt first, then responses, critiques and revisions round by round, pairs and labels."""
    rank = {name: i for i, name in enumerate(SHAPES)}
    stage = pl.col("asset").replace_strict(rank, return_dtype=pl.Int32)
    loop = pl.col("asset").is_in(["critiques", "revisions"])
    return rows.sort("prompt_id", "version", pl.when(loop).then(rank["critiques"]).otherwise(stage), "round", stage,
                     "pair_id", maintain_order=True, nulls_last=False)
