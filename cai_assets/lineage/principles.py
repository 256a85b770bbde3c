"""What shaped a checkpoint, in numbers: its principles, its prompts, its training rows.

Guarantees: counts are of the rows that its records name, each row once however many stages use it again; a share says
what it is a share of; a principle that took part and drew nothing is listed with zero.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import polars as pl
from pydantic import BaseModel, ConfigDict

from cai_assets.constitution.model import Constitution
from cai_assets.lineage.chain import TRAINED, Graph

Measure = Literal["completion tokens", "characters"]
ALL_AT_ONCE = "*"  # stands for the principles of a label that answers all of them in one question
DIGITS = 6  # sums of floats differ in the last bits with the number of threads


class _Fixed(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class PrincipleShare(_Fixed):
    """One principle of one version, as its snapshot says it, and what it shaped.

    ``rows``: supervised rows whose own round drew it; ``chain_rows``: those with it anywhere in their chain.
    ``row_share``, ``text_share``: of all supervised rows and their text. ``labels``: comparisons of the reward model
    that it judged, held-out ones among them; ``mean_strength``: their mean probability of the chosen response.
    """

    id: str
    version: str
    critique: str | None
    revision: str | None
    preference: str | None
    weight: float
    rows: int = 0
    row_share: float = 0.0
    text: int = 0
    text_share: float = 0.0
    chain_rows: int = 0
    labels: int = 0
    label_share: float = 0.0
    mean_strength: float | None = None


class PromptGroup(_Fixed):
    """Prompts of one source, kind and category that training rows of the checkpoint go back to.

    ``broke``: the policy that red-teaming found them by, as POLICY@VERSION.
    """

    source: str
    kind: str
    category: str
    broke: str = ""
    prompts: int


class Stage(_Fixed):
    """The data of one checkpoint. ``text``: in the unit of ``measure``, of supervised rows, comparisons or prompts."""

    rows: int
    held_out: int
    text: int
    measure: Measure


class Influence(_Fixed):
    """``measure``: the unit of every ``text`` of ``principles``."""

    measure: Measure
    principles: tuple[PrincipleShare, ...]
    prompts: tuple[PromptGroup, ...]
    stages: Mapping[str, Stage]


def influence(
    found: Graph, trained: Mapping[str, pl.DataFrame], constitutions: Mapping[str, Constitution]
) -> Influence:
    """What shaped a checkpoint. ``trained``: training rows by checkpoint, as chain.TRAINED."""
    facts = found.rows.select("asset", "version", "principle_ids", "p_chosen", "tokens", "characters").with_row_index(
        "place")
    placed = {name: found.places(frame).select("place") for name, frame in sorted(trained.items())}
    times = pl.concat([pl.DataFrame(schema={"place": pl.UInt32, "n": pl.get_index_type()}),
                       *(f.group_by("place").agg(n=pl.len()) for f in placed.values())])
    used = times.group_by("place").agg(pl.col("n").max()).join(facts, on="place")
    labels = used.filter(pl.col("p_chosen").is_not_null())
    supervised = used.filter(pl.col("p_chosen").is_null(), pl.col("asset") != "prompts")
    measure = measure_of(supervised)
    return Influence(
        measure=measure, principles=_principles(found, facts, _sized(supervised, measure), labels, constitutions),
        prompts=_prompts(found.rows, trained),
        stages={name: _stage(facts, trained[name], f) for name, f in placed.items()})


def measure_of(rows: pl.DataFrame) -> Measure:
    """Completion tokens if every row's are known, else characters."""
    return "characters" if rows["tokens"].null_count() or not rows.height else "completion tokens"


def _sized(rows: pl.DataFrame, measure: Measure) -> pl.DataFrame:
    size = pl.col("tokens" if measure == "completion tokens" else "characters").fill_null(0)
    return rows.with_columns(size=size * pl.col("n").cast(pl.Int64))


def _stage(facts: pl.DataFrame, trained: pl.DataFrame, placed: pl.DataFrame) -> Stage:
    texts = placed.join(facts.select("place", "tokens", "characters"), on="place").with_columns(n=1)
    measure = measure_of(texts)
    return Stage(rows=trained.height, held_out=int(trained["held_out"].sum()), measure=measure,
                 text=int(_sized(texts, measure)["size"].sum()))


def _principles(
    found: Graph, facts: pl.DataFrame, supervised: pl.DataFrame, labels: pl.DataFrame,
    constitutions: Mapping[str, Constitution],
) -> tuple[PrincipleShare, ...]:
    total = {"rows": int(supervised["n"].sum()), "text": int(supervised["size"].sum()), "labels": labels.height}
    own = _by_principle(supervised, [pl.col("n").sum().alias("rows"), pl.col("size").sum().alias("text")])
    ours = labels.filter(pl.col("asset") == "preference_pairs").with_columns(principle_ids=pl.when(
        pl.col("principle_ids").list.len() > 0).then("principle_ids").otherwise(pl.lit([ALL_AT_ONCE])))
    judged = _by_principle(ours, [pl.len().alias("labels"),
                                  pl.col("p_chosen").mean().round(DIGITS).alias("mean_strength")])
    counts: dict[tuple[str, str], dict[str, Any]] = {}
    for frame in (own, _chains(found, facts, supervised), judged):
        for row in frame.iter_rows(named=True):
            key = (row.pop("version"), row.pop("principle_ids"))
            counts[key] = counts.get(key, {}) | row
    texts = {(v, p.id): p.model_dump(include={"critique", "revision", "preference", "weight"})
             for v, c in constitutions.items() for p in c.principles}
    return tuple(_share(key, texts.get(key), counts.get(key, {}), total) for key in sorted({*texts, *counts}))


def _by_principle(rows: pl.DataFrame, sums: Sequence[pl.Expr]) -> pl.DataFrame:
    each = rows.filter(pl.col("principle_ids").list.len() > 0).explode("principle_ids")
    return each.group_by("version", "principle_ids").agg(sums)


def _chains(found: Graph, facts: pl.DataFrame, supervised: pl.DataFrame) -> pl.DataFrame:
    """``chain_rows`` by version and principle: supervised rows with the principle anywhere in their chain."""
    drawn = facts.select("place", "version", "principle_ids").filter(
        pl.col("principle_ids").list.len() > 0).explode("principle_ids")
    names = drawn.select("version", "principle_ids").unique().with_row_index("principle")
    codes = drawn.join(names, on=["version", "principle_ids"], nulls_equal=True).select("principle", at="place")
    here = supervised.select(start="place", at="place")
    each = [here.join(codes, on="at").select("start", "principle")]
    while here.height:
        here = here.join(found.edges, left_on="at", right_on="child").select("start", at="parent")
        each.append(here.join(codes, on="at").select("start", "principle"))
    rows = pl.concat(each).unique().join(supervised.select("place", "n"), left_on="start", right_on="place")
    return rows.group_by("principle").agg(chain_rows=pl.col("n").sum()).join(names, on="principle").drop("principle")


def _share(
    key: tuple[str, str], text: Mapping[str, Any] | None, counts: Mapping[str, Any], total: Mapping[str, int]
) -> PrincipleShare:
    version, principle = key
    shares = {f"{name.removesuffix('s')}_share": round(counts.get(name, 0) / n, DIGITS)
              for name, n in total.items() if n}
    said = text or {"critique": None, "revision": None, "preference": None, "weight": 0.0}
    return PrincipleShare(id=principle, version=version, **said, **counts, **shares)


def _prompts(rows: pl.DataFrame, trained: Mapping[str, pl.DataFrame]) -> tuple[PromptGroup, ...]:
    ids = pl.concat([pl.DataFrame(schema=TRAINED), *trained.values()]).select(row_id="prompt_id").unique()
    by = ["source", "kind", "category", "broke"]
    broke = pl.format("{}@{}", *(pl.col("origin").struct.field(n) for n in ("policy", "version")))
    known = rows.filter(pl.col("asset") == "prompts").select("row_id", *by[:3], broke=broke.fill_null(""))
    reached = known.join(ids, on="row_id", how="semi").with_columns(pl.col(by).fill_null("unknown"))
    groups = reached.group_by(by).agg(prompts=pl.len()).sort(by)
    return tuple(PromptGroup(**g) for g in groups.iter_rows(named=True))
