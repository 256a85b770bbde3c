"""What shaped a checkpoint, in numbers: its principles, its prompts, its training rows.

Guarantees: counts are of the rows that its records name, each row once however many stages use it again; a share says
what it is a share of; a principle that took part and drew nothing is listed with zero.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl
from pydantic import BaseModel, ConfigDict

from cai_assets.assets import ASKED, LABELS
from cai_assets.constitution.model import Constitution
from cai_assets.lineage.graph import Graph, Places, spread
from cai_assets.lineage.shapes import Part, read_rows
from cai_assets.lineage.sizes import Counts, SizeUnit, measured, tokens
from cai_assets.lineage.training_rows import TRAINED
from cai_assets.store.row_store import RowStore

ALL_AT_ONCE = "*"  # stands for the principles of a label that answers all of them in one question
BY = ["version", "principle"]
BITS = 64
DIGITS = 6  # sums of floats differ in the last bits with the number of threads


class _Fixed(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class PrincipleShare(_Fixed):
    """One principle of one version, as its snapshot says it, and what it shaped.

    ``rows``: supervised rows whose own round drew it; ``chain_rows``: those with it anywhere in their chain.
    ``row_share``, ``text_share``: of all supervised rows and their text. ``labels``: comparisons of the reward model
    that it judged, held-out ones among them; ``mean_strength``: their mean probability of the chosen response.
    ``graded``: prompts of reinforcement learning whose responses the labeler graded by its request.
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
    graded: int = 0
    graded_share: float = 0.0


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
    measure: SizeUnit


class Influence(_Fixed):
    """``measure``: the unit of every ``text`` of ``principles``."""

    measure: SizeUnit
    principles: tuple[PrincipleShare, ...]
    prompts: tuple[PromptGroup, ...]
    stages: Mapping[str, Stage]


def influence(
    graph: Graph, store: RowStore, trained: Mapping[str, pl.DataFrame], constitutions: Mapping[str, Constitution],
    versions: Mapping[str, str | None] | None = None,
) -> Influence:
    """What shaped a checkpoint. ``trained``: training rows by checkpoint, as TRAINED; ``versions``: of checkpoints."""
    placed = {name: graph.places(frame["row_id"]) for name, frame in sorted(trained.items())}
    times = np.zeros(graph.rows.height, dtype=np.int64)
    for places in placed.values():
        times = np.maximum(times, np.bincount(places[places >= 0], minlength=len(times)))
    used = np.flatnonzero(times).astype(np.int32)
    token_counts = np.full(len(times), -1, dtype=np.int64)
    token_counts[used] = tokens(graph, store, used)
    label = graph.rows["p_chosen"].is_not_null().to_numpy()[used]
    asked = np.logical_or.reduce([graph.of(name, used) for name in ASKED])
    supervised = used[~label & ~asked]
    measure, size = measured(graph, supervised, token_counts[supervised])
    counted = _Counted(supervised, times[supervised], size * times[supervised], used[label])
    graded = _graded(trained, versions or {})
    return Influence(
        measure=measure, principles=_principles(graph, counted, graded, constitutions),
        prompts=_prompts(graph.parts, trained),
        stages={name: _stage(graph, trained[name], places, token_counts) for name, places in placed.items()})


class _Counted(NamedTuple):
    """Supervised rows with how often they were trained on and their text, and labels; by place."""

    rows: Places
    times: Counts
    text: Counts
    labels: Places


def _stage(graph: Graph, trained: pl.DataFrame, placed: Places, token_counts: Counts) -> Stage:
    places, times = np.unique(placed[placed >= 0], return_counts=True)
    measure, size = measured(graph, places, token_counts[places])
    return Stage(rows=trained.height, held_out=int(trained["held_out"].sum()), measure=measure,
                 text=int((size * times).sum()))


def _principles(
    graph: Graph, counted: _Counted, graded: pl.DataFrame, constitutions: Mapping[str, Constitution]
) -> tuple[PrincipleShare, ...]:
    total = {"rows": int(counted.times.sum()), "text": int(counted.text.sum()), "labels": len(counted.labels),
             "graded": graded["prompt_id"].n_unique()}
    drawn = graph.drawn()
    counts: dict[tuple[str, str], dict[str, Any]] = {}
    for frame in (_own(drawn, counted), _chains(graph, drawn, counted), _labels(graph, drawn, counted.labels),
                  graded.group_by(BY).agg(graded=pl.len())):
        for row in frame.iter_rows(named=True):
            key = (row.pop("version"), row.pop("principle"))
            counts[key] = counts.get(key, {}) | row
    texts = {(v, p.id): p.model_dump(include={"critique", "revision", "preference", "weight"})
             for v, c in constitutions.items() for p in c.principles}
    return tuple(_share(key, texts.get(key), counts.get(key, {}), total) for key in sorted({*texts, *counts}))


def _own(drawn: pl.DataFrame, counted: _Counted) -> pl.DataFrame:
    """``rows`` and ``text`` by version and principle."""
    own = pl.DataFrame({"place": counted.rows, "rows": counted.times, "text": counted.text})
    return drawn.join(_placed(own), on="place").group_by(BY).agg(pl.col("rows", "text").sum())


def _labels(graph: Graph, drawn: pl.DataFrame, places: Places) -> pl.DataFrame:
    """``labels`` and ``mean_strength`` by version and principle; ALL_AT_ONCE for labels that drew none."""
    places = places[graph.of(LABELS, places)]
    about = pl.DataFrame({"place": places}).with_columns(
        part=graph.rows["part"].gather(places), p_chosen=graph.rows["p_chosen"].gather(places)).join(
        graph.assets().select("part", "version"), on="part")
    each = _placed(about).join(drawn.select("place", "principle"), on="place", how="left").with_columns(
        pl.col("principle").fill_null(ALL_AT_ONCE))
    return each.group_by(BY).agg(labels=pl.len(), mean_strength=pl.col("p_chosen").mean().round(DIGITS))


def _chains(graph: Graph, drawn: pl.DataFrame, counted: _Counted) -> pl.DataFrame:
    """``chain_rows`` by version and principle: supervised rows with the principle anywhere in their chain."""
    names = drawn.select(BY).unique(maintain_order=True).with_row_index("code")
    coded = drawn.join(names, on=BY, nulls_equal=True).select("place", "code")
    rows = []
    for start in range(0, names.height, BITS):
        some = coded.filter(pl.col("code").is_between(start, start + BITS - 1))
        own = np.zeros(graph.rows.height, dtype=np.uint64)
        np.bitwise_or.at(own, some["place"].to_numpy(), _bit(some["code"].to_numpy() - start))
        reached = spread(own, graph.parents)[counted.rows]
        rows += [int(counted.times[reached & _bit(np.uint32(i)) != 0].sum())
                 for i in range(min(BITS, names.height - start))]
    chains = names.with_columns(chain_rows=pl.Series(rows, dtype=pl.Int64)).drop("code")
    return chains.filter(pl.col("chain_rows") > 0)


def _bit(number: npt.NDArray[np.uint32] | np.uint32) -> npt.NDArray[np.uint64]:
    return np.left_shift(np.uint64(1), number.astype(np.uint64))


def _graded(trained: Mapping[str, pl.DataFrame], versions: Mapping[str, str | None]) -> pl.DataFrame:
    """``version``, ``principle`` and ``prompt_id``, each once, of prompts whose responses the labeler graded."""
    parts = [frame.select(version=pl.lit(versions.get(name), pl.String), principle="graded_by", prompt_id="prompt_id")
             for name, frame in trained.items()]
    schema = {"version": pl.String, "principle": pl.String, "prompt_id": pl.String}
    return pl.concat([pl.DataFrame(schema=schema), *parts]).drop_nulls("principle").unique()


def _placed(frame: pl.DataFrame) -> pl.DataFrame:
    return frame.with_columns(pl.col("place").cast(pl.UInt32))


def _share(
    key: tuple[str, str], text: Mapping[str, Any] | None, counts: Mapping[str, Any], total: Mapping[str, int]
) -> PrincipleShare:
    version, principle = key
    shares = {f"{name.removesuffix('s')}_share": round(counts.get(name, 0) / n, DIGITS)
              for name, n in total.items() if n}
    texts = text or {"critique": None, "revision": None, "preference": None, "weight": 0.0}
    return PrincipleShare(id=principle, version=version, **texts, **counts, **shares)


def _prompts(parts: Sequence[Part], trained: Mapping[str, pl.DataFrame]) -> tuple[PromptGroup, ...]:
    ids = pl.concat([pl.DataFrame(schema=TRAINED), *trained.values()]).select(row_id="prompt_id").unique()
    by = ["source", "kind", "category", "broke"]
    broke = pl.format("{}@{}", *(pl.col("origin").struct.field(n) for n in ("policy", "version")))
    known = [read_rows(part, only=("row_id", *by[:3], "origin")).join(ids, on="row_id", how="semi").select(
        "row_id", *by[:3], broke=broke.fill_null("")) for part in parts if part.table.asset in ASKED]
    if not known:
        return ()
    each = pl.concat(known).unique("row_id", keep="first", maintain_order=True).with_columns(
        pl.col(by).fill_null("unknown"))
    groups = each.group_by(by).agg(prompts=pl.len()).sort(by)
    return tuple(PromptGroup(**g) for g in groups.iter_rows(named=True))
