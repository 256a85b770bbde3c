"""The shipped tests on the real model: every condition gets an outcome and its texts. What a 135M model says is no
measure of a constitution, so no outcome is expected."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("transformers")

from model_fixtures import prepared_model

from cai_assets.constitution.cases import cases_path, load_cases
from cai_assets.constitution.load import load_file
from cai_assets.engines.transformers_engine import TransformersEngine
from cai_assets.evals.constitution_tests import Roles, run_cases
from cai_assets.settings import load_settings
from cai_assets.steps.complete import Completer
from cai_assets.store.layout import Layout
from cai_assets.store.row_store import RowStore

FOLDER = Path(__file__).parents[2] / "constitutions"
CHOSEN = {"blinking-light", "refund-by-tomorrow", "third-call"}


@pytest.mark.model
def test_every_condition_has_an_outcome_and_the_second_time_costs_nothing(tmp_path: Path) -> None:
    settings = load_settings({"generation": {"max_tokens": 24}, "evaluation": {"max_tokens": 24}}, environment={})
    constitution = load_file(FOLDER / "customer-service.yaml")
    cases = load_cases(cases_path(FOLDER, constitution.name), constitution).cases
    model = prepared_model()
    engine = TransformersEngine(model.path, model.identity, settings.engine)
    complete = Completer(engine, RowStore(Layout(tmp_path)), seed=0)
    roles = Roles(complete, complete, complete, complete, complete)
    first = run_cases(settings, constitution, cases, roles=roles, only=CHOSEN).rows
    engine.close()
    assert [(r["case"], r["subject"], r["rule"]) for r in first.iter_rows(named=True)] == [
        ("blinking-light", "revision", "judge"), ("blinking-light", "revision", "stay_on_topic"),
        ("blinking-light", "policy", "judge"), ("blinking-light", "policy", "stay_on_topic"),
        ("refund-by-tomorrow", "revision", "contain"), ("refund-by-tomorrow", "revision", "judge"),
        ("refund-by-tomorrow", "policy", "contain"), ("refund-by-tomorrow", "policy", "judge"),
        ("third-call", "label", "prefer")]
    assert all(first["response"].str.len_chars() > 0)
    asked = first.filter(first["rule"].is_in(["judge", "prefer"]))
    assert all(0 < p < 1 for p in asked["p"])
    generated = sum(u.generated for u in complete.usage.values())
    assert generated == 2 * 2 + 2 + 2 * 4 + 2  # two chains, two answers, four questions and a pair, both orders
    again = run_cases(settings, constitution, cases, roles=roles, only=CHOSEN).rows
    assert again.equals(first)
    assert sum(u.generated for u in complete.usage.values()) == generated
