"""Suite metrics in words and numbers: the headline table, the whole one, and what plots over versions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import polars as pl

from cai_assets.evals.suites.model import ATTACK, ATTACKS, POOLED
from cai_assets.reports.escape import inline

LIMIT = 1000  # characters that Dagster shows of Markdown without a click
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
    heads = [_head(cells[policies[0], suite]) for suite in shown]
    table = ""
    for width in (2, 1, 0):
        lines = [f"| {p} | {' | '.join(_cell(cells.get((p, suite)), width) for suite in shown)} |" for p in policies]
        table = "\n".join([f"| policy | {' | '.join(heads)} |", "|---" * (len(shown) + 1) + "|", *lines])
        if len(table) < LIMIT:
            return table
    return table[: LIMIT - 40].rpartition("\n")[0] + "\n\nMore in `metrics`."


def metric_table(metrics: pl.DataFrame) -> str:
    """Every headline measure of every suite and mode, with interval, difference and verdict."""
    lines = ["| policy | suite | mode | measure | value | n | ungraded | failed | against base | verdict |",
             "|---|---|---|---|---|---|---|---|---|---|"]
    for m in metrics.filter("headline").iter_rows(named=True):
        delta = "–" if m["delta"] is None else f"{m['delta']:+.3f}{_interval(m['delta_low'], m['delta_high'], 3)}"
        lines.append(f"| {m['policy']} | {inline(m['suite'], 64)} | {m['mode']} | {m['measure']} | {_cell(m, 3)} | "
                     f"{m['n']} | {m['ungraded']} | {m['failed']} | {delta} | {m['verdict']} |")
    return "\n".join(lines)


def numbers(metrics: pl.DataFrame) -> dict[str, float]:
    """Headline values by name, such as ``rl_policy_attack_success`` and ``rl_policy_jailbreak_compliance``."""
    found: dict[str, float] = {}
    for m in metrics.filter("headline", mode="all").iter_rows(named=True):
        name = "attack_success" if m["suite"] == POOLED else f"{m['suite']}_{m['measure']}"
        if m["value"] is not None:
            found[f"{m['policy']}_{name}".translate(PLAIN)] = m["value"]
    return found


def _head(m: Mapping[str, Any]) -> str:
    name = "attack success" if m["suite"] == POOLED else f"{inline(m['suite'], 30)}: {m['measure']}"
    return f"{name} {ARROWS[m['better']]}"


def _cell(m: Mapping[str, Any] | None, width: int) -> str:
    if m is None or m["value"] is None:
        return "–"
    count = f" n={m['n']}" if width == 2 else ""
    interval = _interval(m["low"], m["high"], width) if width else ""
    return f"{m['value']:.{max(width, 2)}f}{interval}{count}"


def _interval(low: float | None, high: float | None, width: int) -> str:
    return "" if low is None or high is None else f" [{low:.{width}f}, {high:.{width}f}]"
