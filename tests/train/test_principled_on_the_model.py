"""A reward model that reads principles, from the real model: trained, measured, used in RL. No accuracy is judged."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from model_fixtures import prepared_model
from tiny_models import make_job, user

from cai_assets.engines.templating import load_tokenizer
from cai_assets.evals.rubric import Part
from cai_assets.settings import Reinforcement
from cai_assets.train import reward
from cai_assets.train.feedback import reward_of
from cai_assets.train.progress import Reporter

pytestmark = [pytest.mark.model, pytest.mark.long]
PRINCIPLES = {"kind": "Which answer is kinder?", "short": "Which answer is shorter?"}


def test_it_trains_is_measured_by_principle_and_rewards_text(tmp_path: Path) -> None:
    base = prepared_model().path
    rows = [{"messages": user(f"Question {i}?"), "chosen": f"Gladly, {i}.", "rejected": f"No, and go away, {i}.",
             "p_chosen": 0.8, "held_out": i < 2, "principle": text, "principle_id": name}
            for i in range(6) for name, text in PRINCIPLES.items()]
    job = make_job(tmp_path, "reward", base, rows, input="principle", controls="none", epochs=1, max_length=128,
                   batch_size=4)
    reward.run(job, Reporter(lambda _: None))
    metrics = json.loads(job.metrics.read_text())
    assert {control: {name: x["n"] for name, x in by.items()} for control, by in metrics["principles"].items()} == {
        "own": {"": 4, "kind": 2, "short": 2}, "shuffled": {"": 4, "kind": 2, "short": 2}}
    parts = tuple(Part(kind="scored", principle=name, digest="d", weight=0.5, question=text)
                  for name, text in PRINCIPLES.items())
    rl = make_job(tmp_path / "rl", "reinforcement", base, [{"messages": user("Hi"), "held_out": False}],
                  reward_model=job.final).model_copy(update={"rewards": parts})
    tokenizer = load_tokenizer(base)
    found = reward_of(rl, Reinforcement.model_validate(rl.settings), tokenizer)
    assert found is not None
    ids = [tokenizer(text)["input_ids"] for text in ("Gladly.", "Go away.")]
    scores = found(prompts=[[1], [1]], completion_ids=ids, messages=[user("Hi"), user("Hi")])
    assert len(set(scores)) == 2
