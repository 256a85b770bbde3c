"""Estimates in words: one way to write a value, a share, a mean and a difference, each with its interval.

No number without what it rests on. Nothing breaks inside of one: its spaces are of the kind that no line breaks at.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from cai_assets.evals.statistics import Estimate

TIED = "\u00a0"  # a space that no line breaks at
UNKNOWN = "unknown"


def value_of(row: Mapping[str, Any]) -> Estimate:
    """The figure in a row of metrics: value, n, low, high."""
    return Estimate(row["value"], row["n"], row["low"], row["high"])


def delta_of(row: Mapping[str, Any]) -> Estimate:
    """Its difference from the base model: delta, delta_n, delta_low, delta_high."""
    return Estimate(row["delta"], row["delta_n"], row["delta_low"], row["delta_high"])


def change_of(row: Mapping[str, Any]) -> Estimate:
    """The difference in a row that is one: delta, n, low, high."""
    return Estimate(row["delta"], row["n"] or 0, row["low"], row["high"])


def interval(e: Estimate) -> str:
    """A signed difference with its interval."""
    if e.value is None:
        return UNKNOWN
    ends = "" if e.low is None or e.high is None else f" [{_signed(e.low)}, {_signed(e.high)}]"
    return f"{_signed(e.value)}{ends}".replace(" ", TIED)


def share(e: Estimate) -> str:
    """A share with its interval and count."""
    if e.value is None:
        return f"{UNKNOWN} (n = {e.n})".replace(" ", TIED)
    return f"{e.value:.0%}{_ends(e, '.0%')} of {e.n}".replace(" ", TIED)


def amount(e: Estimate) -> str:
    """A mean with its interval and count."""
    if e.value is None:
        return UNKNOWN
    return f"{e.value:.2g}{_ends(e, '.2g')} (n = {e.n})".replace(" ", TIED)


def plain(e: Estimate, places: int = 2, *, counted: bool = False) -> str:
    """A value with its interval, for a narrow table; ``counted``: with its count."""
    if e.value is None:
        return "–"
    return f"{e.value:.{places}f}{_ends(e, f'.{places}f')}" + (f" n={e.n}" if counted else "")


def _ends(e: Estimate, form: str) -> str:
    return "" if e.low is None or e.high is None else f" [{e.low:{form}}, {e.high:{form}}]"


def _signed(value: float) -> str:
    """Two places, or as many as show the first digit of a small number."""
    size = abs(value)
    places = 0 if size >= 10 else 2 if size >= 0.01 or not size else min(5, -math.floor(math.log10(size)))
    return f"{value:+.{places}f}"
