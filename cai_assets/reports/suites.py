"""Suite metrics in words and numbers: the headline table, the whole one, and what plots over versions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import polars as pl

from cai_assets.evals.power import with_detectable
from cai_assets.evals.statistics import Telling
from cai_assets.evals.suites.model import ATTACK, ATTACKS, POOLED
from cai_assets.reports.escape import shorten
from cai_assets.reports.text.numbers import delta_of, interval, plain, value_of
from cai_assets.reports.text.tables import SHOWN, Live, short_table, table

PLAIN = str.maketrans({"-": "_", "+": "_", ":": "_"})
ARROWS = {"lower": "↓", "higher": "↑", "": ""}
COLUMNS = 4
OTHERS = pl.Enum(["over-refusal", "helpful", "ability"])  # the price of fewer attacks first


def headline_table(metrics: pl.DataFrame) -> str:
    """One line a policy: attack success, and the headlines of the first other suites. Short enough to show."""
    every = metrics.filter("headline", mode="all")
    attacks, others = every.filter(suite=POOLED), every.filter(~pl.col("kind").is_in([*ATTACKS, ATTACK]))
    chosen = pl.concat([attacks, others.sort(pl.col("kind").cast(OTHERS), maintain_order=True)])
    shown = chosen["suite"].unique(maintain_order=True).to_list()[:COLUMNS]
    cells = {(m["policy"], m["suite"]): m for m in chosen.iter_rows(named=True)}
    policies = every["policy"].unique(maintain_order=True).to_list()
    columns = ("policy", *(_head(cells[policies[0], suite]) for suite in shown))
    counted, uncounted, bare = ([(Live(p), *(_cell(cells.get((p, suite)), width) for suite in shown)) for p in policies]
                                for width in (2, 1, 0))
    tables = (table(columns, rows) for rows in (counted, uncounted))
    return next((t for t in tables if len(t) <= SHOWN), short_table(columns, bare, rest="`metrics`"))


def metric_table(metrics: pl.DataFrame, telling: Telling) -> str:
    """Every headline measure of every suite and mode, with interval, difference and verdict."""
    columns = ("policy", "suite", "mode", "measure", "value", "n", "ungraded", "failed", "against base", "verdict")
    return table(columns, [
        (m["policy"], m["suite"], m["mode"], m["measure"], plain(value_of(m), 3), m["n"], m["ungraded"], m["failed"],
         None if m["delta"] is None else interval(delta_of(m)), with_detectable(m["verdict"], delta_of(m), telling))
        for m in metrics.filter("headline").iter_rows(named=True)])


def numbers(metrics: pl.DataFrame) -> dict[str, float]:
    """Headline values by name, such as ``rl_policy_attack_success`` and ``rl_policy_jailbreak_compliance``."""
    values: dict[str, float] = {}
    for m in metrics.filter("headline", mode="all").iter_rows(named=True):
        name = "attack_success" if m["suite"] == POOLED else f"{m['suite']}_{m['measure']}"
        if m["value"] is not None:
            values[f"{m['policy']}_{name}".translate(PLAIN)] = m["value"]
    return values


def _head(m: Mapping[str, Any]) -> str:
    name = "attack success" if m["suite"] == POOLED else f"{shorten(m['suite'], 30)}: {m['measure']}"
    return f"{name} {ARROWS[m['better']]}"


def _cell(m: Mapping[str, Any] | None, width: int) -> str | None:
    """The less, the narrower: value, interval and count; without the count; the value alone."""
    if m is None or m["value"] is None:
        return None
    return plain(value_of(m), counted=width == 2) if width else f"{m['value']:.2f}"
