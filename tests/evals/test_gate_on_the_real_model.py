"""The judge gate on the real model: 135M parameters do not agree with people, and the gate says so."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("transformers")

from model_fixtures import prepared_model

from cai_assets.constitution.load import load_file
from cai_assets.engines.transformers_engine import TransformersEngine
from cai_assets.evals.gate import measure_labeller, verdict
from cai_assets.settings import load_settings
from cai_assets.steps.complete import Completer
from cai_assets.store.layout import Layout
from cai_assets.store.row_store import RowStore

HARMLESSNESS = Path(__file__).parents[2] / "constitutions" / "harmlessness.yaml"


@pytest.mark.model
@pytest.mark.long
def test_the_small_model_does_not_pass(tmp_path: Path) -> None:
    settings = load_settings({"gate": {"pairs": 20}, "labels": {"few_shots": False}}, environment={})
    model = prepared_model()
    engine = TransformersEngine(model.path, model.identity, settings.engine)
    complete = Completer(engine, RowStore(Layout(tmp_path)), seed=0)
    result, _ = measure_labeller(settings, load_file(HARMLESSNESS), complete=complete)
    engine.close()
    assert (result.n, result.ungraded.value) == (20, 0)
    passed, why = verdict(result, settings.gate)
    assert not passed
    assert "does not agree with people" in why
