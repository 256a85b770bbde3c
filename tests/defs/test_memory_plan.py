"""A training that cannot fit into memory is said by the plan, with what to set, and refused before a call is made."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from histories import History, stored

from cai_assets.defs.metadata import against_plan
from cai_assets.plan import fits
from cai_assets.plan.plan import make_plan
from cai_assets.train import choice
from cai_assets.train.choice import NoMemory


def test_a_training_that_cannot_fit_is_refused_before_anything_is_generated(
    history: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = history.root / "data"
    project = history.project(root)
    version = project.snapshots.register(history.constitution)
    plan = make_plan(project, version)
    need = max(fit.planned.need.total for fit in plan.fits.values())
    assert plan.line("rl_policy").memory == plan.fits["rl_policy"].planned.need.total
    assert any(line.startswith("Memory: at most about ") for line in fits.said(project, plan))
    monkeypatch.setattr(choice, "capacity", lambda: int(need * 0.95))
    tight = list(fits.said(project, make_plan(project, version)))
    assert any("does not fit; " in line for line in tight)
    fits.refuse_without_memory(project, version)  # within the error of an estimate
    monkeypatch.setattr(choice, "capacity", lambda: 1000)
    with pytest.raises(NoMemory, match=r"needs about .* of memory \(.*\) and has 0\.0 MB: no setting makes it fit"):
        fits.refuse_without_memory(project, version)
    fits.refuse_without_memory(project, version, {"initial_responses"})
    assert history.run(root) == (False, version)
    assert stored(root) == {}


def test_what_was_used_is_shown_beside_what_was_planned() -> None:
    line = {"asset": "rl_policy", "training": "train", "seconds": 100.0, "tokens": 5000.0, "memory": 2_000_000}
    details = {"reused_checkpoint": False, "engine_seconds": 80.4, "metrics": {"memory_peak": 1_900_000}}
    record: Any = SimpleNamespace(asset="rl_policy", details=details, completion_tokens=0)
    assert against_plan(record, {"lines": [line]}) == {
        "planned": "train; done: train", "planned_seconds": "at most about 100; used: 80",
        "planned_memory": "at most about 2,000,000; used: 1,900,000"}
    old = {"asset": "rl_policy", "training": "train", "seconds": None, "tokens": None}  # of an earlier release
    assert against_plan(record, {"lines": [old]}) == {"planned": "train; done: train"}
    record.details["reused_checkpoint"] = True
    assert against_plan(record, {"lines": [line]}) == {"planned": "train; done: reuse"}


def test_rows_that_wait_for_a_text_are_trained_on_in_the_plan_too(history: History) -> None:
    """In an empty root every comparison waits, and every revision."""
    project = history.project(history.root / "data")
    plan = make_plan(project, project.snapshots.register(history.constitution))
    longest = project.settings.sl.max_length
    for asset, rows in (("sl_policy", plan.line("revisions").generate_max),
                        ("reward_model", plan.line("response_pairs").generate_max // 2)):
        assert plan.line(asset).training == "train unless unchanged"
        assert 0.5 * rows * longest <= (plan.line(asset).tokens or 0) <= 20 * rows * longest
