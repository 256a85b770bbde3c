"""Chain of thought and votes with the real model: structure and arithmetic, never quality."""

from __future__ import annotations

import math
from pathlib import Path

import polars as pl
import pytest
from model_fixtures import prepared_model
from ruled_labellers import completer

from cai_assets.constitution.load import load_file
from cai_assets.engines.transformers_engine import TransformersEngine
from cai_assets.settings import Engine, Labels
from cai_assets.steps.label import label_pairs
from cai_assets.steps.questions import calls_per_pair
from cai_assets.steps.thought import THOUGHT

CONSTITUTION = load_file(Path(__file__).parents[2] / "constitutions" / "customer-service.yaml")
THREE = CONSTITUTION.model_copy(update={"principles": CONSTITUTION.principles[:3]})


@pytest.mark.model
@pytest.mark.long
@pytest.mark.parametrize("style", ["plain", "chat"])
def test_thoughtful_votes_can_be_recomputed(tmp_path: Path, style: str) -> None:
    model = prepared_model()
    engine = TransformersEngine(model.path, model.identity, Engine(max_model_len=1024, dtype="float32"))
    pairs = pl.DataFrame([{
        "pair_id": f"q{i}-0", "prompt_id": f"q{i}", "messages": [{"role": "user", "content": f"How do I bake {what}?"}],
        "response_a": f"Mix flour and water, then bake {what} for an hour.", "response_b": "I do not know.",
        "identical": False, "error": None,
    } for i, what in enumerate(("bread", "a cake"))], schema_overrides={"error": pl.String})
    settings = Labels(style=style, principles="vote", chain_of_thought=True, thought_tokens=12, clamp=(0.4, 0.6))
    complete = completer(tmp_path, engine)
    labeled = label_pairs(pairs, THREE, complete=complete, settings=settings)
    engine.close()
    assert labeled["error"].to_list() == [None, None]
    assert labeled["row_keys"].list.len().to_list() == [calls_per_pair(settings, THREE)] * 2
    for row in labeled.to_dicts():
        p = {(c["principle_id"], c["order"]): 1 / (1 + math.exp(c["logp_b"] - c["logp_a"])) for c in row["calls"]}
        assert all(math.exp(c["logp_a"]) + math.exp(c["logp_b"]) < 1.0001 for c in row["calls"])
        assert len(p) == 6
        assert row["p_a"] == pytest.approx(sum(p.values()) / 6)
        assert {v["principle_id"]: v["p_a"] for v in row["votes"]} == pytest.approx(
            {i.id: (p[i.id, "first"] + p[i.id, "second"]) / 2 for i in THREE.principles})
        assert 0.4 <= row["p_target"] <= 0.6
        thoughts = complete.store.lookup(THOUGHT.name, [c["thought_key"] for c in row["calls"]])
        assert len(thoughts) == 6
    assert complete.usage["thought"].generated == 12
