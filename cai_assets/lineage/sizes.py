"""How much text rows are: completion tokens as the row store counted them, or characters. A label is its two responses.

Guarantees: a number of tokens is the one that the call had; what the store does not have is unknown (-1), never zero.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np
import numpy.typing as npt
import polars as pl

from cai_assets.assets import EVERY, LABELS
from cai_assets.lineage.graph import Graph, Places
from cai_assets.lineage.shapes import Part, characters
from cai_assets.store.row_store import RowStore

SizeUnit = Literal["completion tokens", "characters"]
Counts = npt.NDArray[np.int64]
# The steps whose texts are trained on.
CALLS = tuple(dict.fromkeys(step for a in EVERY if any(s.calls for s in a.rows) for step in a.steps))
UNKNOWN = -1


def tokens(graph: Graph, store: RowStore, places: Places) -> Counts:
    """Completion tokens of each place (sorted), UNKNOWN where the store does not have the call."""
    return _of(graph, places, lambda own: _tokens(graph, store, own))


def lengths(graph: Graph, places: Places) -> Counts:
    """Characters of the text of each place (sorted)."""
    return _of(graph, places, lambda own: np.concatenate(
        [np.zeros(0, np.int64), *(characters(part, at).to_numpy() for part, _, at in graph.by_part(own))]))


def measured(graph: Graph, places: Places, token_counts: Counts) -> tuple[SizeUnit, Counts]:
    """The size of each place (sorted) and its unit: ``token_counts`` if every row's are known, else characters."""
    if len(places) and (token_counts >= 0).all():
        return "completion tokens", token_counts
    return "characters", lengths(graph, places)


def _of(graph: Graph, places: Places, count: Callable[[Places], Counts]) -> Counts:
    """``count`` for rows that are texts of their own; for labels the sum over their responses, if each is known."""
    above = np.where(graph.of(LABELS, places), np.stack([p[places] for p in graph.parents]), UNKNOWN)
    labels = (above >= 0).any(axis=0)
    own = np.unique(np.concatenate([places[~labels], above[above >= 0]]))
    size = np.full(len(graph.parents[0]) + 1, 0, dtype=np.int64)  # a parent of -1 finds the last entry, which is 0
    size[own] = count(own)
    both = size[above]
    return np.where(labels, np.where((both < 0).any(axis=0), UNKNOWN, both.sum(axis=0)), size[places])


def _tokens(graph: Graph, store: RowStore, own: Places) -> Counts:
    frames = [_keys(part, here, at) for part, here, at in graph.by_part(own) if part.shape.calls]
    keys = pl.concat([pl.DataFrame(schema={"place": pl.Int32, "row_key": pl.String}), *frames])
    size = np.full(len(graph.parents[0]), UNKNOWN, dtype=np.int64)
    for step in reversed(CALLS):
        counted = store.tokens(step, keys).reverse()  # what is stored first is written last, and stays
        size[counted["place"].to_numpy()] = counted["completion_tokens"].to_numpy()
    return size[own]


def _keys(part: Part, places: Places, positions: pl.Series) -> pl.DataFrame:
    frame = part.read([part.shape.keys[0]], positions)
    keys = frame.to_series() if frame.width else pl.Series([None] * len(places), dtype=pl.String)
    return pl.DataFrame({"place": places, "row_key": keys.cast(pl.String)}).drop_nulls()
