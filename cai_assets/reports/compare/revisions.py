"""Which revisions read differently in another version, and why.

Guarantees: revisions are joined by prompt (its id and its text) and round; every revision of either side is in
``rows``, as a pair or on its own, and counted once. ``share``, the measure of 'worst first', is the share of words
that only one of two texts has, as multisets: 0 for the same words, 1 for none in common; order does not count.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import polars as pl

from cai_assets.store.canonical import tagged_hash

KEYS = ("prompt_id", "prompt", "round")
MEASURED = 20_000  # changed texts whose share of changed words is computed; beyond that, a sample by hash
SHOWN = 6
SAME, EDITED, ANOTHER = "same principle", "principle edited", "another principle"
COLUMNS = ("principle_id", "principle_digest", "revision", "row_key")


@dataclass(frozen=True)
class Revisions:
    """``rows``: prompt_id, prompt, round, principle_before, principle_after, before, after, cause, text ('same',
    'changed', 'lost', 'new', 'none', 'only before', 'only after'), asked_again, share. ``by_principle``: of the paired
    rows, by the principle they have now. ``worst`` and ``sample``: rows of changed texts."""

    rows: pl.DataFrame
    by_principle: pl.DataFrame
    worst: pl.DataFrame
    sample: pl.DataFrame
    measured: int

    def count(self, text: str) -> int:
        return self.rows.filter(text=text).height

    @property
    def paired(self) -> int:
        return self.rows.height - self.count("only before") - self.count("only after")

    def causes(self) -> dict[str, int]:
        """Changed texts by what became of their principle."""
        changed = self.rows.filter(text="changed")
        return {cause: changed.filter(cause=cause).height for cause in (EDITED, ANOTHER, SAME)}


def compare_revisions(before: pl.DataFrame, after: pl.DataFrame) -> Revisions:
    """``before``, ``after``: prompt_id, prompt, round, and COLUMNS; one row per prompt and round."""
    rows = _with_share(_joined(before, after))
    changed = rows.filter(pl.col("text") == "changed")
    measured = changed.filter(pl.col("share").is_not_null())
    worst = measured.sort("share", "_order", descending=[True, False]).head(SHOWN)
    others = changed.join(worst.select("_order"), on="_order", how="anti")
    return Revisions(rows.drop("_order"), _by_principle(rows), worst.drop("_order"),
                     others.sort("_order").head(SHOWN).drop("_order"), measured.height)


def share_changed(before: str, after: str) -> float:
    """Words that only one of the texts has, over all words of both."""
    old, new = Counter(before.split()), Counter(after.split())
    total = old.total() + new.total()
    return 1 - 2 * (old & new).total() / total if total else 0.0


def _joined(before: pl.DataFrame, after: pl.DataFrame) -> pl.DataFrame:
    old, new = (f.select(*KEYS, *COLUMNS, pl.lit(True).alias("there")).rename({c: f"{c}_{when}" for c in (
        *COLUMNS, "there")}) for f, when in ((before, "before"), (after, "after")))
    both = old.join(new, on=KEYS, how="full", coalesce=True, nulls_equal=True)
    then, now = pl.col("revision_before"), pl.col("revision_after")
    text = (pl.when(pl.col("there_after").is_null()).then(pl.lit("only before"))
            .when(pl.col("there_before").is_null()).then(pl.lit("only after"))
            .when(then.is_null() & now.is_null()).then(pl.lit("none"))
            .when(now.is_null()).then(pl.lit("lost")).when(then.is_null()).then(pl.lit("new"))
            .when(then == now).then(pl.lit("same")).otherwise(pl.lit("changed")))
    cause = (pl.when(pl.col("principle_id_before") != pl.col("principle_id_after")).then(pl.lit(ANOTHER))
             .when(pl.col("principle_digest_before") != pl.col("principle_digest_after")).then(pl.lit(EDITED))
             .otherwise(pl.lit(SAME)))
    order = pl.struct("prompt_id", "round").map_elements(
        lambda r: tagged_hash("compare", [r["prompt_id"], r["round"]]), return_dtype=pl.String)
    return both.select(
        *KEYS, pl.col("principle_id_before").alias("principle_before"),
        pl.col("principle_id_after").alias("principle_after"), then.alias("before"), now.alias("after"),
        cause.alias("cause"), text.alias("text"), pl.col("row_key_before").ne_missing(
            pl.col("row_key_after")).alias("asked_again"), order.alias("_order")).sort("prompt_id", "round")


def _with_share(rows: pl.DataFrame) -> pl.DataFrame:
    wanted = rows.filter(pl.col("text") == "changed").sort("_order").head(MEASURED)
    shares = [share_changed(b, a) for b, a in wanted.select("before", "after").iter_rows()]
    measured = wanted.select("_order", pl.Series("share", shares, dtype=pl.Float64))
    return rows.join(measured, on="_order", how="left", maintain_order="left")


def _by_principle(rows: pl.DataFrame) -> pl.DataFrame:
    paired = rows.filter(~pl.col("text").is_in(["only before", "only after"]))
    changed = pl.col("text") == "changed"
    causes = [(changed & (pl.col("cause") == c)).sum().alias(c) for c in (EDITED, ANOTHER, SAME)]
    return paired.group_by(pl.col("principle_after").alias("principle")).agg(
        pl.len().alias("rows"), (pl.col("text") == "same").sum().alias("same text"), changed.sum().alias("changed"),
        *causes, pl.col("share").mean().alias("share of words")).sort("changed", "principle", descending=[True, False])
