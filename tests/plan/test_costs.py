"""Tokens, seconds and money of a plan follow from settings, sizes and what was measured, and count the GPUs used."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import polars as pl
import pytest

from cai_assets.engines.number_format import cpu, gpu
from cai_assets.pipeline import spending
from cai_assets.plan import rates
from cai_assets.plan.devices import CORE, GPUS, OTHER_GPU, SPREAD, speed
from cai_assets.plan.lines import cost_of
from cai_assets.plan.rates import PARAMETERS, Rate, row_rate, training_rate
from cai_assets.settings import Settings, load_settings
from cai_assets.train.work import tokens_per_row, training_amount

SMALL, LARGE = 135_000_000, 7_000_000_000


def settings(scale: str = "smoke", **changes: Any) -> Settings:
    return load_settings({"scale": scale, **changes}, environment={})


def project(now: Settings, *records: Any) -> Any:
    """A store with these records. Models are as large as the records' own paths say."""
    return SimpleNamespace(settings=now, layout=SimpleNamespace(absolute=lambda path: path), records=SimpleNamespace(
        every=lambda asset: [r for r in records if r.asset == asset]))


@pytest.fixture(autouse=True)
def sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rates, "parameters", lambda path: path)
    monkeypatch.setattr(rates, "device", lambda: cpu(frozenset()))


def made(asset: str, then: Settings, **values: Any) -> Any:
    groups = {name: getattr(then, name).model_dump(mode="json") for name in ("generation", "rl", "sl")}
    kept = {"generation": groups["generation"]} if asset == "critiques" else groups
    return SimpleNamespace(**{"asset": asset, "settings": kept, "path": SMALL, "rows": 8, "generated": 0,
                              "completion_tokens": 0, "prompt_tokens": 0, "details": {}} | values)


def critiques(**values: Any) -> Any:
    return made("critiques", settings(), generated=10, completion_tokens=400, prompt_tokens=2000, **values)


def test_a_row_costs_what_it_did_as_long_as_nothing_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rates, "model_size", lambda *_: SMALL)
    before = critiques(details={"engine_seconds": 20.0, PARAMETERS: SMALL})
    assert row_rate(project(settings(), before), "critiques") == Rate(1, 2.0, 2.0, 2.0, 40.0, 200.0)


def test_longer_texts_and_larger_models_cost_more(monkeypatch: pytest.MonkeyPatch) -> None:
    before = critiques(details={"engine_seconds": 20.0, PARAMETERS: SMALL})
    now = settings(generation={"max_tokens": 64 * 8})
    monkeypatch.setattr(rates, "model_size", lambda *_: SMALL)
    longer = row_rate(project(now, before), "critiques")
    assert (longer.seconds, longer.low, longer.tokens) == (16.0, 2.0, 320.0)  # they may come out as short as before
    monkeypatch.setattr(rates, "model_size", lambda *_: 10 * SMALL)
    assert row_rate(project(now, before), "critiques").seconds == pytest.approx(160.0)
    of_an_earlier_release = critiques(details={"engine_seconds": 20.0})
    assert row_rate(project(settings(), of_an_earlier_release), "critiques").seconds == 2.0


def test_a_full_rl_stage_is_not_planned_by_the_seconds_of_a_smoke_run() -> None:
    then, now = settings(), settings("full")
    before = made("rl_policy", then, details={"engine_seconds": 147.0, "reused_checkpoint": False})
    group = now.rl
    amount = training_amount(LARGE, group, "reinforcement", 1000, group.max_length)
    assert amount.tokens == 2000 * 256 * 2048
    rate = training_rate(project(now, before), "rl_policy", amount)
    small = training_amount(SMALL, then.rl, "reinforcement", 8, then.rl.max_length)
    assert rate.seconds == pytest.approx(147.0 * amount.operations / small.operations)
    assert rate.seconds > 147 * 1e5
    assert rate.tokens == amount.tokens
    again = training_rate(project(then, before), "rl_policy", small)
    assert again.seconds == pytest.approx(147.0)


def test_another_training_of_the_store_tells_the_speed_and_else_a_table_does() -> None:
    now = settings()
    amount = training_amount(SMALL, now.rl, "reinforcement", 8, now.rl.max_length)
    table = training_rate(project(now), "rl_policy", amount)
    assert table.measured == 0
    assert (table.low, table.high) == (table.seconds / SPREAD, table.seconds * SPREAD)
    sft = made("sl_policy", now, details={"engine_seconds": 10.0, "reused_checkpoint": False})
    done = training_amount(SMALL, now.sl, "supervised", 8, now.sl.max_length)
    other = training_rate(project(now, sft), "rl_policy", amount)
    assert other.measured == 1
    assert other.seconds == pytest.approx(10.0 * amount.operations / done.operations)
    assert training_rate(project(now), "rl_policy").seconds is None


def test_a_model_that_is_not_here_has_no_table() -> None:
    served = settings(models={"generator": {"source": "m", "base_urls": ["http://h/v1"]}})
    assert row_rate(project(served), "critiques") == Rate()


def test_work_counts_every_model_that_reads_the_tokens() -> None:
    rl = settings().rl.model_copy(update={"ppo_epochs": 1})
    changes = {"ppo": {}, "grpo": {"algorithm": "grpo"}, "one trunk": {"value_model": "shared"}}
    each = {name: training_amount(SMALL, rl.model_copy(update=changed), "reinforcement", 100, 256)
            for name, changed in changes.items()}
    assert each["ppo"].tokens == each["grpo"].tokens == 4 * 8 * 256
    per_token = {name: amount.operations / amount.tokens / SMALL for name, amount in each.items()}
    assert per_token == {"grpo": 6 + 2 * 4, "ppo": 2 * 6 + 2 * 5, "one trunk": 6 + 2 * 5}
    sl = settings().sl
    whole = training_amount(SMALL, sl, "supervised", 10, 100)
    assert whole.operations == 6 * SMALL * 1000
    adapters = training_amount(SMALL, type(sl).model_validate({"lora": {}}), "supervised", 10, 100)
    assert adapters.operations == 4 * SMALL * 1000


@pytest.mark.parametrize(("controls", "times"), [("none", 1), ("blind", 2), ("all", 1 + 1 + 4)])
def test_a_reward_model_that_reads_principles_is_trained_once_more_for_each_control(controls: str, times: int) -> None:
    reward = settings().reward.model_copy(update={"input": "principle", "controls": controls})
    alone = training_amount(SMALL, settings().reward, "reward", 10, 100)
    assert training_amount(SMALL, reward, "reward", 10, 100, principles=5).tokens == times * alone.tokens


def test_tokens_are_counted_by_characters_within_the_limit() -> None:
    sl, rl = settings().sl, settings().rl
    row = {"messages": [{"role": "user", "content": "x" * 100}], "response": "y" * 100}
    assert tokens_per_row(pl.DataFrame([row]), sl) == 50
    assert tokens_per_row(pl.DataFrame([row | {"response": "y" * 9999}]), sl) == sl.max_length
    assert tokens_per_row(pl.DataFrame([row | {"response": None}, row]), sl) == 50
    assert tokens_per_row(pl.DataFrame([row]).drop("response"), rl) == 25 + rl.max_tokens
    assert tokens_per_row(pl.DataFrame([row]).clear(), sl) == sl.max_length


def test_gpus_that_are_used_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spending, "gpu_count", lambda: 8)
    now = settings(sl={"processes": 4}, engine={"tensor_parallel_size": 2},
                   models={"labeller": {"source": "big", "base_urls": ["http://h/v1"], "price_input": 0.5,
                                        "price_output": 1.5}}, price_per_gpu_hour=3.6)
    assert [spending.gpus(now, asset) for asset in ("sl_policy", "rl_policy", "critiques", "preference_pairs")] == [
        4, 1, 2, 0]
    line = cost_of(now, "critiques", Rate(1, 2.0, 1.0, 3.0, 40.0, 200.0), 100)
    assert (line["seconds"], line["gpu_seconds"], line["cost_usd"]) == (200.0, 400.0, pytest.approx(0.4))
    served = cost_of(now, "preference_pairs", Rate(1, 2.0, 1.0, 3.0, 40.0, 200.0), 100)
    assert served["gpu_seconds"] == 0
    assert served["cost_usd"] == pytest.approx((20_000 * 0.5 + 4_000 * 1.5) / 1e6)
    assert cost_of(now, "critiques", Rate(), 100)["cost_usd"] is None
    monkeypatch.setattr(spending, "gpu_count", lambda: 0)
    assert spending.gpus(now, "sl_policy") == 0


def test_the_table_knows_devices_by_name() -> None:
    assert speed(gpu("NVIDIA H200 (compute capability 9.0)", (9, 0)), 8).training == 8 * GPUS["H200"].training
    assert speed(gpu("NVIDIA Z1", (9, 0)), 1) == OTHER_GPU
    assert speed(cpu(frozenset()), 1).training >= CORE.training
