"""Why something differs, or will: asked of what was made and of what is only planned."""

from __future__ import annotations

import json

import polars as pl
import pytest
from histories import History

from cai_assets.pipeline.project import Project
from cai_assets.plan.lines import REUSE
from cai_assets.plan.plan import make_plan
from cai_assets.plan.why import Difference, why_asset, why_row


@pytest.fixture
def world(history: History) -> tuple[Project, str, str, pl.DataFrame]:
    """A made version, and one that is registered and no more: its first principle has another critique request."""
    success, before = history.run(history.root / "data")
    assert success
    project = history.project(history.root / "data")
    critiques = project.records.table(project.records.latest("critiques", before))
    target = critiques["principle_id"].mode().sort()[0]
    history.constitution = history.constitution.model_copy(update={"principles": tuple(
        p.model_copy(update={"critique": "Say what is wrong."}) if p.id == target else p
        for p in history.constitution.principles)})
    now = project.snapshots.register(history.constitution)
    return project, before, now, critiques.filter(principle_id=target).sort("round", "prompt_id")


def fields(found: list[Difference]) -> list[str]:
    return [d.field for d in found]


def test_a_row_that_is_only_planned_names_the_field_and_what_waits_says_so(
    world: tuple[Project, str, str, pl.DataFrame]
) -> None:
    project, before, now, drew = world
    first = drew.row(0, named=True)
    (difference,) = why_row(project, "critiques", now, f"{first['prompt_id']}:{first['round']}", against=before)
    assert difference.field == "call.messages[0].content"
    assert "Say what is wrong." in difference.now
    with pytest.raises(LookupError, match="depends on a text that does not exist yet"):
        why_row(project, "revisions", now, f"{first['prompt_id']}:{first['round']}", against=before)
    with pytest.raises(LookupError, match=r"no finished row 'nobody:1'.*PROMPT:ROUND"):
        why_row(project, "critiques", now, "nobody:1", against=before)
    with pytest.raises(LookupError, match="rows of evaluation cannot be compared"):
        why_row(project, "evaluation", now, "x", against=before)


def test_a_checkpoint_that_is_only_planned_has_a_key_or_the_reason_why_not(
    world: tuple[Project, str, str, pl.DataFrame], history: History
) -> None:
    project, before, now, _ = world
    with pytest.raises(LookupError, match=r"key of sl_policy .* is not known until .* revisions: up to \d+ rows are "
                                          r"new"):
        why_asset(project, "sl_policy", now, against=before)
    with pytest.raises(LookupError, match=r"critiques for .* is not materialized yet: 'cai plan"):
        why_asset(project, "critiques", now, against=before)
    history.settings["rl"] = {"beta": 0.5}
    changed = history.project(history.root / "data")
    assert fields(why_asset(changed, "sft_baseline", before, against=before)) == []
    plan = make_plan(changed, before)
    assert (plan.line("sl_policy").training, plan.line("rl_policy").training) == (REUSE, "train")


def test_a_table_names_its_settings_inputs_and_rows(
    world: tuple[Project, str, str, pl.DataFrame], history: History
) -> None:
    project, before, now, _ = world
    history.settings["seed"] = 5
    assert history.run(history.root / "data") == (True, now)
    found = why_asset(project, "critiques", now, against=before)
    assert fields(found) == ["settings.seed", "input constitution", "input starting_responses", "rows"]
    assert found[0].now == "5"
    total = project.records.latest("critiques", before).rows
    assert f"{total}, {total} of them with a different key" in found[-1].now
    assert fields(why_asset(project, "critiques", before, against=before)) == []
    assert "seed" in fields(why_asset(project, "sl_policy", now, against=before))


def test_a_policy_names_a_new_labeller_and_new_supervised_rows(
    world: tuple[Project, str, str, pl.DataFrame], history: History
) -> None:
    project, before, now, _ = world
    rl = history.settings.get("rl", {})
    history.settings["rl"] = {**rl, "reward": "labeller", "alpha": 1.0}
    assert history.run(history.root / "data") == (True, now)
    named = {f.split(".")[0] for f in fields(why_asset(project, "rl_policy", now, against=before))}
    assert {"labeller", "supervised", "reward_model", "settings"} <= named

    old = project.checkpoints.find("rl_policy", project.records.latest("rl_policy", before).digest)
    assert old is not None
    record = {k: v for k, v in old.record.items() if k not in {"labeller", "supervised"}}  # of an earlier release
    (old.path / "record.json").write_text(json.dumps(record))
    named = {f.split(".")[0] for f in fields(why_asset(project, "rl_policy", now, against=before))}
    assert "reward_model" in named
    assert not {"labeller", "supervised"} & named
