"""The rubric reward asks the real model in the training process, and its answers are rows that are found again."""

from __future__ import annotations

from pathlib import Path

import pytest
from model_fixtures import prepared_model

from cai_assets.constitution.model import Constitution, Principle
from cai_assets.engines.templating import load_tokenizer
from cai_assets.evals.rubric import parts_of
from cai_assets.evals.weighing import rewards, scale_of
from cai_assets.settings import Engine, Model, Reinforcement
from cai_assets.store.layout import Layout
from cai_assets.store.row_store import list_shards, read_shard
from cai_assets.train.job import Job, Judge
from cai_assets.train.parted import from_rubric

pytestmark = pytest.mark.model


def test_each_rollout_is_asked_about_each_principle_in_both_orders_and_asked_once(tmp_path: Path) -> None:
    model = prepared_model()
    constitution = Constitution(name="c", version="v1", principles=(
        Principle(id="kind", rubric="Is the answer kind?"), Principle(id="short", rubric="Is the answer short?")))
    layout = Layout(tmp_path / "data")
    job = Job(kind="reinforcement", key="k1:0", base=model.path, data=tmp_path / "none.parquet", work=tmp_path,
              settings=Reinforcement(reward="rubric").model_dump(mode="json"), dtype="float32",
              rewards=parts_of(constitution, questions=True, checks=0.0, undecided=0.05),
              judge=Judge(model=Model(source=str(model.path)), engine=Engine(dtype="float32", max_model_len=512),
                          data_root=layout.root, style="plain"))
    tokenizer = load_tokenizer(model.path)
    reward = from_rubric(job, Reinforcement(reward="rubric"), tokenizer)
    asked = {"messages": [[{"role": "user", "content": "How are you?"}]] * 2, "principles": [["kind", "short"]] * 2}
    responses = [tokenizer(text)["input_ids"] for text in ("Very well, thank you!", "Go away and never come back.")]
    values = reward.score(completion_ids=responses, keep=True, **asked)
    assert values.shape == (2, 2)
    assert ((values > 0) & (values < 1)).all()
    assert len(set(values.ravel().tolist())) == 4

    def rows() -> int:
        return sum(read_shard(shard, ["row_key"]).height for shard in list_shards(layout.folder("rows", "rubric")))

    assert rows() == 8
    tiers = parts_of(Constitution(name="c", version="v1", principles=(
        constitution.principles[0], constitution.principles[1].model_copy(update={"priority": 2}))), questions=True,
        checks=0.0, undecided=0.0)
    assert [part.tier.number for part in tiers if part.tier] == [1, 2]
    by_tier = rewards(values, [part.share for part in tiers], scale_of(values))
    assert by_tier.argmax() == values[:, 0].argmax()
    assert (reward.score(completion_ids=responses, **asked) == values).all()
    assert rows() == 8
