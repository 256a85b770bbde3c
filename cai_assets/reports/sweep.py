"""What a sweep over ``rl.alpha`` found: one row per value, as a table and as JSON under the data root.

Every number is read from the checkpoint and the evaluation of that value. Win rates are against the base model, with
interval and count. Two values differ for certain only where their intervals do not meet.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from cai_assets.pipeline.project import Project
from cai_assets.pipeline.roles import checkpoint_of
from cai_assets.reports.text.numbers import plain, value_of
from cai_assets.reports.text.tables import Live, table
from cai_assets.store.layout import Layout
from cai_assets.store.pages import write_page

WINS = (("harmlessness_win_rate", "red-team"), ("helpfulness_win_rate", "helpful"))
HEADER = ("alpha", "reward, first → last", "held-out reward ± standard error", "largest KL", "SL loss, first → last",
          "harmless wins", "helpful wins")


def measured(project: Project, version: str, alpha: float) -> dict[str, Any]:
    """The row of the RL policy and the evaluation that this version has now."""
    record = project.records.latest("rl_policy", version)
    checkpoint = checkpoint_of(project, record)
    metrics, curve = checkpoint.metrics, [row["sl_loss"] for row in checkpoint.curves if "sl_loss" in row]
    names = ("reward_first", "reward_last", "held_out_reward_last", "held_out_reward_last_se", "held_out_n", "kl_last",
             "kl_max")
    wins = _wins(project.records.table(project.records.latest("evaluation", version)))
    return {"alpha": alpha, "checkpoint": checkpoint.key, **{name: metrics.get(name) for name in names},
            "sl_loss_first": curve[0] if curve else None, "sl_loss_last": curve[-1] if curve else None, **wins}


def _wins(evaluation: pl.DataFrame) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for metric, prompts in WINS:
        rows = evaluation.filter(policy="rl_policy", metric=metric, prompts=prompts).to_dicts()
        out[metric] = {k: rows[0][k] for k in ("value", "low", "high", "n", "ungraded")} if rows else None
    return out


def markdown(version: str, rows: Sequence[Mapping[str, Any]]) -> str:
    """The table, by rising alpha."""
    cells = [[Live(cell) for cell in (
        f"{row['alpha']:g}", _change(row["reward_first"], row["reward_last"]), _held_out(row), _number(row["kl_max"]),
        _change(row["sl_loss_first"], row["sl_loss_last"]), *(_win(row[metric]) for metric, _ in WINS))]
        for row in sorted(rows, key=lambda r: float(r["alpha"]))]
    return f"# {version}: L_SL + alpha × L_RL\n\n{table(HEADER, cells)}\n"


def save(layout: Layout, version: str, rows: Sequence[Mapping[str, Any]]) -> Path:
    """Write the table and, beside it, the same as JSON; return the table's path."""
    path = layout.file("reports", f"sweep-alpha-{version}.md")
    layout.write(path.with_suffix(".json"), json.dumps(list(rows), indent=1).encode())
    write_page(layout, path, markdown(version, rows))
    return path


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3g}"


def _change(first: float | None, last: float | None) -> str:
    return f"{_number(first)} → {_number(last)}"


def _held_out(row: Mapping[str, Any]) -> str:
    error = row["held_out_reward_last_se"]
    spread = "" if error is None else f" ± {error:.2g}"
    return f"{_number(row['held_out_reward_last'])}{spread} (n = {row['held_out_n'] or 0})"


def _win(row: Mapping[str, Any] | None) -> str:
    if row is None or row["value"] is None:
        return "unknown"
    return f"{plain(value_of(row))} (n = {row['n']}, {row['ungraded']} ungraded)"
