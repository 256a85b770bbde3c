"""Rows that are longer than max_length: what the check, the asset's page and the card say of them."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from cai_assets.assets import CHECKPOINTS
from cai_assets.defs.checks import preference, reinforcement, supervised
from cai_assets.defs.checks.common import rows_fit
from cai_assets.defs.metadata import fit_metadata
from cai_assets.pipeline.project import Project
from cai_assets.pipeline.trainings import Training
from cai_assets.reports.checkpoint import checkpoint_card
from cai_assets.store.checkpoints import Checkpoint
from cai_assets.store.records import Record
from cai_assets.train.fit import CUT, DROPPED, PART, READ, metrics, too_long

FIT = Counter({("general", READ): 80, ("general", CUT): 2, ("helpful", READ): 20, ("helpful", DROPPED): 1})


def record(numbers: dict[str, Any]) -> Record:
    return Record(asset="sl_policy", partition="v", digest="d", path="p", details={"metrics": numbers})


@pytest.mark.parametrize(("limit", "passes"), [(0.01, False), (0.03, True)])
def test_a_share_above_the_limit_warns_with_the_numbers(tmp_path: Path, limit: float, passes: bool) -> None:
    project = Project.open({"data_root": str(tmp_path), "monitors": {"cut_share": limit}})
    passed, why, numbers = rows_fit(project, record(metrics(FIT)), "v")
    assert passed is passes
    assert "of 100 rows, 2 lost their earliest turns and 1 were left out" in why
    assert f"limit {limit:.1%}" in why
    assert numbers == {"cut": 2, "left_out": 1, "share": 0.03, "limit": limit}


def test_a_checkpoint_of_an_earlier_release_was_not_counted(tmp_path: Path) -> None:
    passed, why, _ = rows_fit(Project.open({"data_root": str(tmp_path)}), record({"rows_dropped": 0}), "v")
    assert passed
    assert "not counted" in why


def test_every_training_has_the_check() -> None:
    every = [c.spec for module in (supervised, preference, reinforcement) for c in module.checks]
    assert {s.asset_key.to_user_string() for s in every if s.name == "rows_fit"} == set(CHECKPOINTS)


def test_the_page_and_the_card_show_them(tmp_path: Path) -> None:
    about = {"metrics": metrics(FIT), "base": {"weights": "w"}, "constitution": None, "settings": {}, "principles": [],
             "rows_by_kind": {"general conversations": 80}}
    page = fit_metadata(Checkpoint("k1:0", tmp_path, about))
    assert (page["rows_cut"], page["rows_left_out"]) == (2, 1)
    assert too_long(metrics(FIT)) == (
        "1 of 100 rows dropped and 2 without their earliest turns: they are longer than max_length (general: 0 and 2 "
        "of 80; helpful: 1 and 0 of 20)")
    assert too_long({"rows_dropped": 1}) == ""
    card = checkpoint_card("supervised", "k1:0", "base", about)
    assert "| rows_cut | 2 |" in card.replace("\\_", "_")
    assert fit_metadata(Checkpoint("k1:0", tmp_path, {**about, "metrics": {}})) == {}


def test_the_training_process_is_told_the_kind_of_each_row() -> None:
    rows = pl.DataFrame({"prompt_id": ["a"], "kind": ["general"], "messages": ["m"], "response": ["r"]})
    data = rows.select("messages", "response")
    training = Training(asset="sl_policy", kind="supervised", rows=rows, data=data, base=None)
    assert training.by_part.to_dicts() == [{"messages": "m", "response": "r", PART: "general"}]
    assert training.data.columns == data.columns
