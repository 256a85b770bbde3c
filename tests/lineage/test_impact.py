"""Tracing forward, against a walk back from every checkpoint."""

from __future__ import annotations

import json
from typing import Any

import pytest
from made_history import Plain, made, plain
from typer.testing import CliRunner

from cai_assets.assets import CHECKPOINTS
from cai_assets.cli import app
from cai_assets.lineage.chain import UnknownRow
from cai_assets.lineage.impact import Reached, Target, impact, parse, rebuild
from cai_assets.lineage.principles import ALL_AT_ONCE
from cai_assets.lineage.targets import UnknownTarget, every_record, find_record


def by_hand(target: Target) -> dict[tuple[str, str | None, str], int]:
    """Directly trained rows of every reached checkpoint: 0 if it was reached through another one alone."""
    found: dict[tuple[str, str | None, str], int] = {}
    for record in every_record(made().layout, CHECKPOINTS):
        if target.version and target.version not in (record.partition or ""):
            continue
        walked = plain(record.ref.id)
        hits = {i for i, node in walked.nodes.items() if (
            target.row in {i, node.get("prompt_id")} if target.row else by(target, node, walked))}
        rows = {name: sum(bool(walked.ancestry(i) & hits) or walked.graded.get(name, {}).get(walked.prompt(i)) in
                          {target.principle} - {None} for i in ids) for name, ids in walked.trained.items()}
        if any(rows.values()):
            found[record.asset, record.partition, record.digest] = rows[record.ref.id]
    return found


def by(target: Target, node: dict[str, Any], walked: Plain) -> bool:
    """Whether a row was drawn by a principle, or is a label that answers all of them, and it asks for one."""
    names = node.get("principles", set())
    return target.principle in names or (ALL_AT_ONCE in names and walked.asks(target.principle))


def counts(found: list[Reached]) -> dict[tuple[str, str | None, str], int]:
    return {(x.asset, x.partition, x.key): x.rows + x.held_out for x in found}


def test_a_principle_reaches_exactly_the_checkpoints_that_stand_on_it() -> None:
    for target in (Target(principle="hand-over"), Target(principle="new-one"),
                   Target(principle="protect-data", version=made().versions[2])):
        found = impact(made().layout, target)
        assert counts(found) == by_hand(target)
        assert all(x.asset != "sft_baseline" for x in found)
    assert {x.partition for x in impact(made().layout, Target(principle="new-one"))} == set(made().versions[-3:])


def test_a_prompt_reaches_exactly_the_checkpoints_that_stand_on_it() -> None:
    every = plain(find_record(made().layout, f"sl_policy@{made().versions[-1]}").ref.id)
    prompts = sorted({str(n["prompt_id"]) for n in every.nodes.values() if n.get("prompt_id")})
    trained = {p for p in prompts if by_hand(Target(row=p))}
    assert trained < set(prompts)
    for prompt in prompts[::4]:
        found = impact(made().layout, Target(row=prompt))
        assert counts(found) == (by_hand(Target(row=prompt)) if prompt in trained else {})
    assert any(x.asset == "sft_baseline" for x in impact(made().layout, Target(row=min(trained))))


def test_a_row_reaches_what_was_made_from_it_and_shares_add_up() -> None:
    record = find_record(made().layout, f"sl_policy@{made().versions[0]}")
    row = plain(record.ref.id).trained[record.ref.id][0]
    found = impact(made().layout, Target(row=row))
    assert counts(found) == by_hand(Target(row=row))
    policy = next(x for x in found if x.record == record.ref.id or x.key == record.digest)
    assert policy.row_share == pytest.approx(policy.rows / policy.of_rows, abs=1e-6)
    assert 0 < policy.text_share < 1
    later = next(x for x in found if x.asset == "rl_policy" and x.partition == record.partition)
    assert any(name.startswith("sl_policy/") for name in later.through)


def test_what_a_prompt_costs_to_take_out() -> None:
    last = made().versions[-1]
    policy = plain(find_record(made().layout, f"rl_policy@{last}").ref.id)
    name = next(i for ids in policy.trained.values() for i in ids if not i.startswith("i1:"))
    lines = rebuild(made().layout, impact(made().layout, Target(row=name)), lambda asset, units, training: {
        "seconds": 60.0 if training else 0.5 * units})
    mine = {x.asset: x for x in lines if x.partition == last}
    assert {a for a, x in mine.items() if x.trainings} == {"sl_policy", "reward_model", "rl_policy"}
    assert mine["rl_policy"].cost["seconds"] == 60.0
    assert mine["response_pairs"].cost["seconds"] == 0.5 * mine["response_pairs"].calls > 0
    assert "critiques" in mine  # of a later round: the policy that wrote what they criticize is another one
    assert "critiques" not in {x.asset for x in lines if x.partition == made().versions[0]}


def test_targets_are_told_apart_and_unknown_ones_refused() -> None:
    layout = made().layout
    assert parse(layout, "hand-over") == Target(principle="hand-over")
    assert parse(layout, f"hand-over@{made().versions[0]}").version == made().versions[0]
    assert parse(layout, "hand-over", prompt=True) == Target(row="hand-over")
    with pytest.raises(UnknownTarget, match="it has: "):
        parse(layout, f"nothing@{made().versions[0]}")
    with pytest.raises(UnknownRow, match="nothing"):
        impact(layout, parse(layout, "nothing"))


def test_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CAI_DATA_ROOT", str(made().data))
    shown = CliRunner().invoke(app, ["impact", "hand-over"])
    assert shown.exit_code == 0, shown.output
    assert "rl_policy" in shown.output
    assert "training runs, about" in " ".join(shown.output.split())
    found = json.loads(CliRunner().invoke(app, ["impact", "hand-over", "--json"]).output)
    assert {x["asset"] for x in found["reached"]} == {"sl_policy", "reward_model", "rl_policy"}
    assert CliRunner().invoke(app, ["impact", "nothing"]).exit_code == 2


def test_what_must_go_with_a_prompt_has_a_price(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CAI_DATA_ROOT", str(made().data))
    monkeypatch.setenv("CAI_PRICE_PER_GPU_HOUR", "2")
    monkeypatch.setattr("cai_assets.pipeline.spending.gpu_count", lambda: 1)
    policy = plain(find_record(made().layout, f"sl_policy@{made().versions[0]}").ref.id)
    prompt = policy.prompt(next(iter(policy.trained.values()))[0])
    lines = json.loads(CliRunner().invoke(app, ["impact", "--prompt", prompt, "--json"]).output)["rebuild"]
    trained = [x for x in lines if x["trainings"]]
    assert {x["asset"] for x in trained} >= {"sl_policy", "reward_model", "rl_policy"}
    for x in lines:
        assert x["cost"]["cost_usd"] == pytest.approx(x["cost"]["seconds"] / 3600 * 2)
    shown = " ".join(CliRunner().invoke(app, ["impact", "--prompt", prompt]).output.split())
    total = sum(x["cost"]["cost_usd"] for x in lines)
    assert f"{sum(x['calls'] for x in lines)} model calls and {len(trained)} training runs" in shown
    assert f"and {total:.4f} USD" in shown
    assert "cai plan" in shown
