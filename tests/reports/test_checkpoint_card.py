from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from cai_assets.constitution.load import parse_own
from cai_assets.constitution.model import Constitution
from cai_assets.reports.checkpoint import checkpoint_card
from cai_assets.reports.text.coverage import coverage_line
from cai_assets.store.layout import Layout
from cai_assets.versions.parents import parent_of
from cai_assets.versions.snapshots import Snapshots


def clauses(**more: Any) -> Constitution:
    return parse_own(json.dumps({"version": "v1", "articles": [{"id": "1", "clauses": [
        {"id": "1.1", "text": "Be kind to all."} | more]}]}), name="house", where="house.yaml")


def test_an_unknown_parent_is_told_where_clauses_rest_on_one() -> None:
    assert coverage_line(clauses(), None) == ""
    assert "not known: 1 clauses rest on a parent that the constitution does not name" in coverage_line(
        clauses(basis=["2.1"]), None)
    named = clauses(basis=["2.1"]).model_copy(update={"parent": "gone*"})
    assert r"rest on a parent, gone\*, that is not on file" in coverage_line(named, None)
    assert coverage_line(named.model_copy(update={"articles": ()}), None) == ""


def test_a_parent_is_found_among_versions_and_files(tmp_path: Path) -> None:
    snapshots = Snapshots(Layout(tmp_path / "data"))
    child = clauses(basis=["2.1"]).model_copy(update={"parent": "town"})
    assert parent_of(child, snapshots, tmp_path) is None
    (tmp_path / "town.yaml").write_text(json.dumps({"version": "v3", "principles": [
        {"id": "kind", "preference": "Be kind to all."}]}))
    found = parent_of(child, snapshots, tmp_path)
    assert found
    assert "1 sentences of town v3: 1 mapped" in coverage_line(child, found)
    snapshots.register(found.model_copy(update={"version": "v4"}))
    newer = parent_of(child, snapshots, tmp_path)
    assert newer
    assert newer.version == "v4"


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
