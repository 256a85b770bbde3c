from __future__ import annotations

from typing import Any

from cai_assets.reports.checkpoint import checkpoint_card


def test_the_card_shows_held_out_figures_with_interval_and_count_once() -> None:
    held_out: dict[str, Any] = {"n": 40, "accuracy": 0.75, "accuracy_low": 0.6, "accuracy_high": 0.86,
                                "length_accuracy": None, "length_accuracy_low": None, "calibration_error": 0.1,
                                "reliability": [{"from": 0.5, "n": 40}]}
    card = checkpoint_card("reward", "checkpoint:1", "small-model", {
        "metrics": {"rows": 80, "loss_last": 0.5, "held_out": held_out}, "base": {"weights": "w"},
        "constitution": "c-v1-00000000", "rows_by_kind": {"AI-labelled comparisons": 80},
        "principles": [{"id": "p", "text": "Be kind.", "rows": 80}],
        "settings": {"targets": "soft", "margin": 0.3, "lora": {"rank": 4}}})
    assert "| held\\_out\\_accuracy | 0.75 \\[0.6, 0.86\\] (n = 40) |" in card
    assert "accuracy\\_low" not in card
    assert "| held\\_out\\_calibration\\_error | 0.1 |" in card
    assert "| targets | soft |" in card
