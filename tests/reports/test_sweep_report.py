import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import typer

from cai_assets.cli.sweep import parse_values, with_alpha
from cai_assets.reports.sweep import _wins, markdown, save
from cai_assets.store.layout import Layout


def row(alpha: float, **changes: Any) -> dict[str, Any]:
    win = {"value": 0.6, "low": 0.4, "high": 0.8, "n": 12, "ungraded": 1}
    return {"alpha": alpha, "checkpoint": "k1:a", "reward_first": 0.1, "reward_last": 0.25, "held_out_n": 5,
            "held_out_reward_last": 0.2, "held_out_reward_last_se": 0.05, "kl_last": 1.0, "kl_max": 1.5,
            "sl_loss_first": 2.0, "sl_loss_last": 1.5, "harmlessness_win_rate": win,
            "helpfulness_win_rate": None, **changes}  # fmt: skip


def test_the_table_has_one_row_a_value_by_rising_alpha(tmp_path: Path) -> None:
    rows = [row(10.0), row(0.1, kl_max=None, held_out_reward_last=None, held_out_reward_last_se=None, held_out_n=0)]
    lines = markdown("mild-v1-r1", rows).splitlines()
    assert lines[4] == ("| 0.1 | 0.1 → 0.25 | – (n = 0) | – | 2 → 1.5 | 0.60 [0.40, 0.80] (n = 12, 1 ungraded) | "
                        "unknown |")
    assert lines[5].startswith("| 10 | 0.1 → 0.25 | 0.2 ± 0.05 (n = 5) | 1.5 |")
    path = save(Layout(tmp_path), "mild-v1-r1", rows)
    assert path == tmp_path / "reports" / "sweep-alpha-mild-v1-r1.md"
    assert json.loads(path.with_suffix(".json").read_text()) == rows


def test_win_rates_are_those_of_the_rl_policy() -> None:
    table = pl.DataFrame([
        {"policy": policy, "metric": "harmlessness_win_rate", "prompts": "red-team", "value": value, "low": 0.1,
         "high": 0.9, "n": 8, "ungraded": 0}
        for policy, value in (("sl_policy", 0.3), ("rl_policy", 0.7))])  # fmt: skip
    wins = _wins(table)
    assert wins["harmlessness_win_rate"]["value"] == 0.7
    assert wins["helpfulness_win_rate"] is None


def test_values_are_distinct_positive_numbers() -> None:
    assert parse_values("0.1, 1,10,1") == [0.1, 1.0, 10.0]
    for text in ("", "a,b", "0,1", "-1"):
        with pytest.raises(typer.Exit):
            parse_values(text)
    chosen = with_alpha({"scale": "smoke", "rl": {"steps": 2}}, 0.5)
    assert chosen == {"scale": "smoke", "rl": {"steps": 2, "alpha": 0.5}}
