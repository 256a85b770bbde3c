"""A judge on a server of its own reads answers while policies still answer: faster, and the same tables and rows."""

from __future__ import annotations

import json
import math
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from fake_server import MODEL, Body, FakeServer, serving
from given import Given

from cai_assets.assets import AGAIN, BASE
from cai_assets.constitution.model import Constitution, Principle
from cai_assets.engines.protocol import Call, Request
from cai_assets.engines.scripted import Scripted
from cai_assets.engines.served.engine import ServedEngine
from cai_assets.pipeline import evaluation as stages
from cai_assets.settings import Engine, Model, Settings
from cai_assets.steps.complete import Completer
from cai_assets.store.layout import Layout
from cai_assets.store.row_store import RowStore

PROMPTS = pl.DataFrame([
    {"prompt_id": f"p{i}", "split": "evaluation", "kind": ("red-team", "helpful")[i % 2], "category": "c",
     "messages": [{"role": "user", "content": f"Question {i}?"}]} for i in range(12)])
POLICIES = (BASE, AGAIN, "sl_policy", "rl_policy")
RULES = Constitution(name="c", version="v1", principles=(
    Principle(id="calm", critique="Say what is rude.", revision="Be calm.", evaluation="Which answer is calmer?"),))


def scores(body: Body, n: int) -> str:
    """What the judge says, which depends on the question alone."""
    p = random.Random(body["prompt"]).uniform(0.05, 0.9)
    listed = {name: math.log(share) for name, share in zip(("A", "B"), (p, 0.95 - p), strict=True)}
    if "Yes or No" in body["prompt"] or "No or Yes" in body["prompt"]:
        listed = dict(zip(("Yes", "No"), listed.values(), strict=True))
    return "says:200 " + json.dumps({"model": MODEL, "usage": {"prompt_tokens": 3, "completion_tokens": 1}, "choices": [
        {"index": 0, "finish_reason": "stop", "text": "A", "logprobs": {"top_logprobs": [listed]}}]})


def storm(body: Body, n: int) -> str:
    rng = random.Random(n)
    time.sleep(min(0.3, rng.lognormvariate(-5, 1.5)))
    return scores(body, n) if rng.random() < 0.6 else rng.choice(["429"] * 8 + ["500", "reset"])


class Policies(Given):
    """Four policies here, and a judge that is served."""

    def __init__(self, root: Path, server: FakeServer) -> None:
        settings = Settings.model_validate({
            "data_root": str(root), "labels": {"style": "plain"}, "evaluation": {"samples": 2, "suite_cases": 2},
            "models": {"generator": {"source": "m", "backend": "scripted"}}})
        super().__init__(settings, constitution=RULES, starting_responses=PROMPTS)
        self.store = RowStore(Layout(root))
        self.judge = ServedEngine(Model(source=MODEL, backend="openai", base_urls=[server.url]),
                                  Engine(concurrency=8, retries=20), first_delay=0.01)

    def policies(self) -> dict[str, Completer]:
        engines = {name: Scripted(name.removesuffix("_again"), reply=_fails_at_times) for name in POLICIES}
        return {name: Completer(engine, self.store, seed=0) for name, engine in engines.items()}

    def complete(self, role: Any) -> Completer:
        return Completer(self.judge, self.store, seed=0)

    def rows(self) -> dict[str, int]:
        return {step: self.store.index(step).rows for step in ("respond", "judge")}


def _fails_at_times(call: Call, request: Request) -> str:
    return "" if request.seed % 7 == 0 else f"answer {request.seed} to {call.messages[-1]['content']}"


def evaluated(run: Policies) -> list[pl.DataFrame]:
    metrics, rows, responses = stages.evaluation(run)
    return [metrics, rows, *responses.values()]


def suites(run: Policies) -> list[pl.DataFrame]:
    return [*stages.suite_tables(run.settings, stages.suite_results(run))]


@pytest.mark.parametrize("stage", [evaluated, suites])
def test_the_tables_and_rows_are_those_of_a_judge_that_waits(
    tmp_path: Path, stage: Callable[[Policies], list[pl.DataFrame]]
) -> None:
    with serving(storm) as server:
        meanwhile = Policies(tmp_path / "meanwhile", server)
        found = stage(meanwhile)
    with serving(scores) as server:
        after = Policies(tmp_path / "after", server)
        after.judge.aside = False
        wanted = stage(after)
        assert meanwhile.rows() == after.rows()
        for one, other in zip(found, wanted, strict=True):
            assert one.equals(other)
        asked = server.calls
        for one, other in zip(stage(after), wanted, strict=True):
            assert one.equals(other)
        assert server.calls == asked  # everything was stored
    assert wanted[1].height >= 96
