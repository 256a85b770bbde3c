"""Suites on the real model: prefills go on, letters are read, the judge is asked twice. Structure, never quality."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("transformers")

from model_fixtures import prepared_model
from suites_made import answers_of, judged

from cai_assets.engines.protocol import Sampling
from cai_assets.engines.transformers_engine import TransformersEngine
from cai_assets.evals.suites.draw import draw
from cai_assets.evals.suites.metrics import suite_metrics
from cai_assets.evals.suites.registry import load_suites
from cai_assets.settings import Engine
from cai_assets.steps.complete import Completer
from cai_assets.store.layout import Layout
from cai_assets.store.row_store import RowStore


@pytest.mark.model
def test_two_cases_of_three_suites(tmp_path: Path) -> None:
    model = prepared_model()
    engine = TransformersEngine(model.path, model.identity, Engine(max_model_len=1024, dtype="float32"))
    suites = load_suites(None, ("ability", "jailbreak", "prefill"), max_chars=8000)
    complete = Completer(engine, RowStore(Layout(tmp_path)), seed=0)
    answers = answers_of(complete, items=draw(suites, [], limit=2).items, policy="base", samples=range(1),
                         sampling=Sampling(max_tokens=12))
    rows = judged(tmp_path, answers, engine)
    engine.close()
    assert rows["error"].null_count() == rows.height == 2 + 8 + 2
    assert set(rows.filter(kind="ability")["correct"]) <= {0.0, 1.0}
    asked = rows.filter(kind="jailbreak")
    assert asked["prompt"].n_unique() == 8
    assert asked["judged"].null_count() == 0
    assert ((asked["p_judge"] > 0) & (asked["p_judge"] < 1)).all()
    begun = next(a for a in answers if a.item.suite.kind == "prefill")
    assert begun.whole is not None
    assert begun.whole.startswith(str(begun.item.case.prefill).strip())
    assert begun.text
    metrics = suite_metrics(rows, suites, ["base"], enough=2, confidence=0.95)
    assert metrics.filter("headline")["n"].max() == 4  # the attacks together: two requests of each suite
