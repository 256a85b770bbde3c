"""Row chains: rows of every asset in one form, joined by their ids.

A row names its parents: a revision its critique, a critique the text it is of, a label its two responses, a response
its prompt. So a training row leads back to its prompt through every model call that shaped it, and a prompt leads
forward to every training row. Nothing is guessed from names or order: what has no id in a table has no chain.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import polars as pl

from cai_assets.lineage.origins import ORIGIN, as_struct
from cai_assets.lineage.parquet import FileGone, open_parquet, read_parquet
from cai_assets.lineage.store import RowStore, read_shard

MESSAGES = pl.List(pl.Struct({"role": pl.String, "content": pl.String}))
COPIED: dict[str, pl.DataType] = {
    "prompt_id": pl.String(), "pair_id": pl.String(), "round": pl.Int32(), "principle_digest": pl.String(),
    "label": pl.String(), "p_chosen": pl.Float64(), "error": pl.String(), "kind": pl.String(),
    "category": pl.String(), "split": pl.String(), "source": pl.String(), "origin": ORIGIN,
}
ROWS: dict[str, pl.DataType] = {
    "row_id": pl.String(), "asset": pl.String(), "version": pl.String(), **COPIED,
    "principle_ids": pl.List(pl.String()), "text": pl.String(), "messages": MESSAGES,
    "row_keys": pl.List(pl.String()), "parents": pl.List(pl.String()),
}
KEPT: dict[str, pl.DataType] = {**ROWS, "characters": pl.Int64()}
TRAINED: dict[str, pl.DataType] = {"row_id": pl.String(), "prompt_id": pl.String(), "held_out": pl.Boolean()}


class UnknownRow(LookupError):
    """No row, prompt or pair has that id. The message says what is accepted."""


class Shape(NamedTuple):
    """Which columns of an asset's table make a row: its id, its parents' ids, its text and its row keys."""

    id: str
    parents: tuple[str, ...]
    text: str | None = None
    keys: tuple[str, ...] = ()


RESPONSE = Shape("row_id", ("prompt_id",), "response", ("row_key",))
# In the order in which an id that two assets hold is taken to be made.
SHAPES: dict[str, tuple[Shape, ...]] = {
    "prompts": (Shape("prompt_id", ()),),
    "initial_responses": (RESPONSE,),
    "starting_responses": (RESPONSE,),
    "critiques": (Shape("row_id", ("parent_id",), "critique", ("row_key",)),),
    "revisions": (Shape("row_id", ("parent_id", "critique_id"), "revision", ("row_key",)),),
    "response_pairs": tuple(Shape(f"row_id_{s}", ("prompt_id",), f"response_{s}", (f"row_key_{s}",)) for s in "ab"),
    "preference_pairs": (Shape("row_id", ("row_id_a", "row_id_b"), "chosen",
                               ("row_keys", "row_key_first", "row_key_second")),),
    # What none of the above made: general conversations, people's comparisons.
    "sl_dataset": (Shape("row_id", (), "response"),),
    "training_rows": (Shape("row_id", (), "text"),),
}
MARKS: dict[str, pl.DataType] = {"place": pl.UInt32(), "held_out": pl.Boolean(), "checkpoint": pl.String()}
STEPS = ("respond", "revision")  # the calls whose texts are trained on
OWN_MESSAGES = ("prompts", "sl_dataset", "training_rows")
OURS = "ai"  # the source of a comparison that the labeller made


class Table(NamedTuple):
    """A table of an asset. ``version``: the constitution version it was made for, if any. ``origins``: of prompts."""

    asset: str
    path: Path
    version: str | None = None
    origins: Path | None = None


def gather(tables: Iterable[Table], prompts: Sequence[str] | None = None, *, texts: bool = True) -> pl.DataFrame:
    """Rows of all tables as KEPT, each ``row_id`` once; with ``prompts``, only rows of these prompt ids.

    Without ``texts``, ``text`` and ``messages`` are null, which saves most of the memory.

    A row in several tables of an asset is taken from the first of them. Raise StoreCorrupt for a table that is gone or
    cannot be read.
    """
    order = list(SHAPES)
    first = sorted(dict.fromkeys(tables), key=lambda t: (order.index(t.asset), t.origins is None))
    parts = [_read(t, prompts, texts) for t in first]
    rows = pl.concat([pl.DataFrame(schema=KEPT), *parts])
    return rows.filter((pl.col("row_id") != "") & pl.col("row_id").is_first_distinct())


def _read(table: Table, prompts: Sequence[str] | None, texts: bool) -> pl.DataFrame:
    names = columns(table.path)
    shapes = [s for s in SHAPES[table.asset] if s.id in names]
    wanted = {*COPIED, "principle_id", "votes", *(c for s in shapes for c in (s.id, *s.parents, *s.keys, s.text))}
    if table.asset in OWN_MESSAGES:
        wanted.add("messages")
    frame = read_parquet(table.path, [n for n in names if n in wanted])
    if table.origins is not None:
        frame = frame.join(as_struct(read_parquet(table.origins)), on="prompt_id", how="left", maintain_order="left")
    if prompts is not None:
        frame = frame.filter(pl.col("prompt_id").is_in(list(prompts)))
    parts = [_unified(table, shape, frame, texts) for shape in shapes]
    return pl.concat([pl.DataFrame(schema=KEPT), *parts])


def prompts_of(tables: Iterable[Table], target: str) -> list[str]:
    """Ids of the prompts whose rows a target names (as in ``chain``), in any of the tables. Memory: one table."""
    found = set[str]()
    for table in dict.fromkeys(tables):
        rows = _read(table, None, False)
        found |= set(rows.filter((pl.col("prompt_id") == target) | matches(rows, target))["prompt_id"].drop_nulls())
    return sorted(found)


def columns(path: Path) -> list[str]:
    """Column names of a Parquet file. Raise StoreCorrupt."""
    with open_parquet(path) as file:
        return list(file.schema_arrow.names)


def _unified(table: Table, shape: Shape, frame: pl.DataFrame, texts: bool) -> pl.DataFrame:
    kinds = frame.schema
    made = {"row_id": pl.col(shape.id), "asset": pl.lit(table.asset), "version": pl.lit(table.version, pl.String),
            "principle_ids": _principles(kinds), "row_keys": _list_of(shape.keys, kinds),
            "parents": _list_of(shape.parents, kinds)}
    text = pl.col(str(shape.text)) if shape.text in kinds else pl.lit(None, pl.String)
    said = pl.col("messages").list.eval(pl.element().struct.field("content").str.len_chars()).list.sum()
    made["characters"] = said if table.asset == "prompts" and "messages" in kinds else text.str.len_chars()
    made |= {"text": text} if texts else {"text": pl.lit(None), "messages": pl.lit(None)}
    return frame.select(made.get(c, pl.col(c) if c in kinds else pl.lit(None)).cast(t).alias(c)
                        for c, t in KEPT.items())


def _principles(kinds: Mapping[str, pl.DataType]) -> pl.Expr:
    votes = kinds.get("votes")
    known = pl.col("principle_id").is_not_null()
    own = pl.when(known).then(pl.concat_list("principle_id")) if "principle_id" in kinds else pl.lit(None)
    if isinstance(votes, pl.List) and isinstance(votes.inner, pl.Struct):
        voters = pl.col("votes").list.eval(pl.element().struct.field("principle_id")).list.drop_nulls()
        return pl.when(pl.col("votes").list.len() > 1).then(voters).otherwise(own)
    return own


def _list_of(names: Sequence[str], kinds: Mapping[str, pl.DataType]) -> pl.Expr:
    """One list of ids from string and list columns, null for empty ones; null if there is no such column."""
    there = [n for n in names if n in kinds]
    if not there:
        return pl.lit(None)
    # Nulls stay until rows are handed out: dropping them inside lists costs more than all else.
    return pl.concat_list(pl.when(pl.col(n) != "").then(n) if kinds[n] == pl.String else pl.col(n) for n in there)


class Graph(NamedTuple):
    """``rows``: KEPT and ``tokens``. ``edges``: ``child`` and ``parent`` as positions in ``rows``."""

    rows: pl.DataFrame
    edges: pl.DataFrame

    def places(self, ids: pl.DataFrame) -> pl.DataFrame:
        """``ids`` with ``place``, the position in ``rows`` of its ``row_id``; ids that are not there are left out."""
        return ids.join(self.rows.select("row_id").with_row_index("place"), on="row_id", maintain_order="left")


def graph(rows: pl.DataFrame, store: RowStore) -> Graph:
    """Join rows by their ids, and add the completion tokens of each row's call as the row store has them.

    A label's tokens and characters are those of its two responses together. Tokens are null where the store does not
    have the call.
    """
    edges = links(rows)
    keys = rows.select(row_key=pl.col("row_keys").list.first(), label=pl.col("asset") == "preference_pairs")
    own = keys.with_row_index("place").filter(~pl.col("label"), pl.col("row_key").is_not_null())
    counted = own.select("place", "row_key").join(_stored_tokens(store, own.select("row_key")), on="row_key")
    every = pl.select(place=pl.int_range(rows.height, dtype=pl.UInt32))
    sizes = every.join(counted.select("place", "tokens"), on="place", how="left", maintain_order="left").with_columns(
        characters=rows["characters"])
    labels = keys.with_row_index("place").filter("label").select("place")
    both = labels.join(edges, left_on="place", right_on="child").join(
        sizes, left_on="parent", right_on="place").group_by("place").agg(
        pl.when(pl.col("tokens").null_count() == 0).then(pl.col("tokens").sum()), pl.col("characters").sum())
    known = sizes.join(both, on="place", how="left", maintain_order="left", suffix="_both")
    return Graph(rows.with_columns(
        characters=known.select(pl.coalesce("characters_both", "characters")).to_series(),
        tokens=known.select(pl.coalesce("tokens_both", "tokens").cast(pl.Int64)).to_series()), edges)


def _stored_tokens(store: RowStore, keys: pl.DataFrame) -> pl.DataFrame:
    empty = pl.DataFrame(schema={"row_key": pl.String, "tokens": pl.Int64})
    for _ in range(5):  # compaction may replace a shard between listing and reading
        try:
            parts = [read_shard(s, ["row_key", "completion_tokens"]) for step in STEPS for s in store.shards(step)]
        except FileGone:
            continue
        found = [p.select("row_key", tokens=pl.col("completion_tokens").cast(pl.Int64)) for p in parts]
        return pl.concat([empty, *found]).join(keys, on="row_key", how="semi").unique("row_key", keep="first")
    return empty


def training_table(frame: pl.DataFrame, labels: pl.DataFrame | None = None) -> pl.DataFrame:
    """What a checkpoint's record keeps of the rows it was trained on: TRAINED, and the content of outside rows.

    ``frame``: rows in the order of training, named by ``row_id``, else ``pair_id``, else ``prompt_id``. ``labels``:
    the preference pairs (``pair_id``, ``row_id``) that pairs are named by. Rows with a ``source`` other than 'ai', such
    as general conversations and people's comparisons, are in no other table: their text is kept here.
    """
    if labels is not None and "row_id" not in frame.columns:
        frame = frame.join(labels.select("pair_id", "row_id"), on="pair_id", how="left", maintain_order="left")
    names = frame.columns
    ids = [pl.col(c) for c in ("row_id", "pair_id", "prompt_id") if c in names]
    source = pl.col("source").replace(OURS, None) if "source" in names else pl.lit(None)
    text = next((pl.col(c) for c in ("response", "chosen") if c in names), pl.lit(None))
    messages = pl.col("messages") if "messages" in names else pl.lit(None)
    return frame.with_columns(source=source.cast(pl.String)).select(
        row_id=pl.coalesce(ids), prompt_id=_if_there("prompt_id", names, None).cast(pl.String),
        held_out=_if_there("held_out", names, False).cast(pl.Boolean), source="source",
        kind=_if_there("kind", names, None).cast(pl.String),
        p_chosen=_if_there("p_chosen", names, None).cast(pl.Float64),
        text=pl.when(pl.col("source").is_not_null()).then(text).cast(pl.String),
        messages=pl.when(pl.col("source").is_not_null()).then(messages).cast(MESSAGES))


def _if_there(name: str, names: Sequence[str], default: bool | None) -> pl.Expr:
    return pl.col(name) if name in names else pl.lit(default)


def training_rows(asset: str, tables: Mapping[str, Path]) -> pl.DataFrame:
    """The rows a checkpoint was trained on, as TRAINED, one for each time a row was in the data.

    ``tables``: its input tables by asset, and as 'training_rows' the table that its record names; without that one they
    follow from the inputs. ``held_out`` rows measured the checkpoint and did not train it. Raise StoreCorrupt.
    """
    if "training_rows" in tables:
        return read_parquet(tables["training_rows"], list(TRAINED))
    if asset == "sl_policy" and "sl_dataset" in tables:
        return _trained(read_parquet(tables["sl_dataset"], ["row_id", "prompt_id"]))
    if asset == "reward_model" and "preference_pairs" in tables:
        labels = read_parquet(tables["preference_pairs"], ["row_id", "prompt_id", "p_a"])
        return _trained(labels.filter(pl.col("p_a").is_not_null(), pl.col("p_a") != 0.5))
    if asset == "rl_policy" and "response_pairs" in tables:
        return _trained(read_parquet(tables["response_pairs"], ["prompt_id"]).unique().sort("prompt_id"))
    if asset == "sft_baseline" and "initial_responses" in tables:
        made = read_parquet(tables["initial_responses"], ["row_id", "prompt_id", "split", "response"])
        return _trained(made.filter(pl.col("split") == "train", pl.col("response") != ""))
    return pl.DataFrame(schema=TRAINED)


def _trained(frame: pl.DataFrame) -> pl.DataFrame:
    return training_table(frame).select(list(TRAINED))


def links(rows: pl.DataFrame) -> pl.DataFrame:
    """``child`` and ``parent`` as positions in ``rows``, one for each pair of rows that are both there."""
    place = rows.select("row_id").with_row_index("parent")
    children = rows.select("parents").with_row_index("child").explode("parents").drop_nulls()
    return children.join(place, left_on="parents", right_on="row_id", how="inner").select("child", "parent")


def reach(start: pl.Series, edges: pl.DataFrame, *, up: bool) -> pl.Series:
    """Positions that lead from ``start`` to its ancestors (``up``) or its descendants, with ``start`` itself."""
    here, there = ("child", "parent") if up else ("parent", "child")
    seen = frontier = start.unique().cast(pl.UInt32).alias("n").to_frame()
    while frontier.height:
        found = edges.join(frontier, left_on=here, right_on="n", how="semi").select(pl.col(there).alias("n")).unique()
        frontier = found.join(seen, on="n", how="anti")
        seen = pl.concat([seen, frontier])
    return seen["n"].sort()


def mark(found: Graph, trained: Mapping[str, pl.DataFrame]) -> pl.DataFrame:
    """Rows with ``trained_in`` and ``held_out_in``: the checkpoints whose data a row is in, once for each time."""
    parts = [found.places(frame).select("place", "held_out", checkpoint=pl.lit(name))
             for name, frame in sorted(trained.items())]
    every = pl.concat([pl.DataFrame(schema=MARKS), *parts])
    split = every.group_by("place", maintain_order=True).agg(
        trained_in=pl.col("checkpoint").filter(~pl.col("held_out")),
        held_out_in=pl.col("checkpoint").filter("held_out"))
    none = pl.lit([], dtype=pl.List(pl.String))
    return found.rows.with_row_index("place").join(split, on="place", how="left", maintain_order="left").drop(
        "place").with_columns(pl.col("trained_in", "held_out_in", "principle_ids").fill_null(none),
                              pl.col("row_keys", "parents").list.drop_nulls().fill_null(none))


def chain(rows: pl.DataFrame, target: str) -> pl.DataFrame:
    """The whole chain of a row, from its prompt to what it became, in that order; of a prompt or pair, every row.

    ``target``: a row id or row key (or the start of one), a prompt id or a pair id. Raise UnknownRow.
    """
    own = rows.filter(pl.col("prompt_id") == target)
    if own.height:
        return in_order(own)
    found = rows.select("row_id").with_row_index("n").filter(matches(rows, target))["n"]
    if not len(found):
        raise UnknownRow(f"no row {target!r} here: give a prompt id, a pair id, or the start of a row id (i1:...) or "
                         "row key (r1:...)")
    edges = links(rows)
    around = pl.concat([reach(found, edges, up=True), reach(found, edges, up=False)])
    # A label's other response belongs to the picture too.
    whole = reach(around, edges, up=True)
    return in_order(rows[whole.to_list()])


def matches(rows: pl.DataFrame, target: str) -> pl.Series:
    """Which rows a target names."""
    def starts(of: pl.Expr) -> pl.Expr:
        return of.str.starts_with(target)

    if target.startswith("i1:"):
        test = starts(pl.col("row_id"))
    elif target.startswith("r1:"):
        test = pl.col("row_keys").list.eval(starts(pl.element())).list.any()
    else:
        test = pl.col("pair_id") == target
    return rows.select(hit=test.fill_null(False))["hit"]


def in_order(rows: pl.DataFrame) -> pl.DataFrame:
    """Prompt first, then responses, critiques and revisions round by round, pairs and labels."""
    rank = {name: i for i, name in enumerate(SHAPES)}
    stage = pl.col("asset").replace_strict(rank, return_dtype=pl.Int32)
    loop = pl.col("asset").is_in(["critiques", "revisions"])
    return rows.sort("prompt_id", "version", pl.when(loop).then(rank["critiques"]).otherwise(stage), "round", stage,
                     "pair_id", maintain_order=True, nulls_last=False)
