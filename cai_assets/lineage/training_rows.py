"""Which rows a checkpoint was trained on: kept beside its record, or derived from the inputs of an older one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import polars as pl

from cai_assets.lineage.shapes import MESSAGES, columns
from cai_assets.store.layout import Layout
from cai_assets.store.parquet import read_parquet
from cai_assets.store.records import Record

# ``graded_by``: the principle by whose request the labeler graded the responses to a prompt (rl.reward=labeller).
TRAINED: dict[str, pl.DataType] = {"row_id": pl.String(), "prompt_id": pl.String(), "held_out": pl.Boolean(),
                                   "graded_by": pl.String()}
OURS = "ai"  # the source of a comparison that the labeler made


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
        messages=pl.when(pl.col("source").is_not_null()).then(messages).cast(MESSAGES),
        **{n: pl.col(n) for n in ("graded_by",) if n in names})


def _if_there(name: str, names: Sequence[str], default: bool | None) -> pl.Expr:
    return pl.col(name) if name in names else pl.lit(default)


def training_of(layout: Layout, record: Record, inputs: Mapping[str, Record]) -> pl.DataFrame:
    """The rows that one checkpoint was trained on, as TRAINED. ``inputs``: the records it read, by id."""
    tables = {r.asset: layout.absolute(r.path) for ref in record.inputs if (r := inputs.get(ref.id))}
    if "training_rows" in record.details:
        tables["training_rows"] = layout.absolute(record.details["training_rows"])
    return training_rows(record.asset, tables)


def training_rows(asset: str, tables: Mapping[str, Path]) -> pl.DataFrame:
    """The rows a checkpoint was trained on, as TRAINED, one for each time a row was in the data.

    ``tables``: its input tables by asset, and as 'training_rows' the table that its record names; without that one they
    follow from the inputs. ``held_out`` rows measured the checkpoint and did not train it. Raise StoreCorrupt.
    """
    if "training_rows" in tables:
        path = tables["training_rows"]
        return _trained(read_parquet(path, [n for n in columns(path) if n in TRAINED]))
    if asset == "sl_policy" and "sl_dataset" in tables:
        return _trained(read_parquet(tables["sl_dataset"], ["row_id", "prompt_id"]))
    if asset == "reward_model" and "preference_pairs" in tables:
        labels = read_parquet(tables["preference_pairs"], ["row_id", "prompt_id", "p_a"])
        return _trained(labels.filter(pl.col("p_a").is_not_null(), pl.col("p_a") != 0.5))
    if asset == "rl_policy" and "response_pairs" in tables:
        prompts = read_parquet(tables["response_pairs"], ["prompt_id"]).unique().sort("prompt_id")
        return _trained(prompts.with_columns(row_id="prompt_id"))
    if asset == "sft_baseline" and "initial_responses" in tables:
        responses = read_parquet(tables["initial_responses"], ["row_id", "prompt_id", "split", "response"])
        return _trained(responses.filter(pl.col("split") == "train", pl.col("response") != ""))
    return pl.DataFrame(schema=TRAINED)


def _trained(frame: pl.DataFrame) -> pl.DataFrame:
    """TRAINED of the columns that are there; nothing is held out unless a column says so."""
    default = {"held_out": pl.lit(False)}
    return frame.select((pl.col(n) if n in frame.columns else default.get(n, pl.lit(None))).cast(t).alias(n)
                        for n, t in TRAINED.items())
