import polars as pl
import pytest

from cai_assets.constitution.load import load_file
from cai_assets.engines.protocol import ModelIdentity
from cai_assets.pipeline import trainings
from cai_assets.settings import Settings, load_settings, project_root
from cai_assets.steps.comparisons import comparisons
from cai_assets.steps.reinforce import held_out
from cai_assets.train import identity

CONSTITUTION = load_file(project_root() / "constitutions" / "harmlessness.yaml")
BASE = ModelIdentity(weights="w", tokenizer="t", template="c")
PAIRS = pl.DataFrame([
    {"pair_id": f"p{i}-{n}", "prompt_id": f"p{i}", "principle_id": "x",
     "messages": [{"role": "user", "content": str(i)}], "response_a": "yes", "response_b": "no",
     "chosen": "yes", "rejected": "no", "p_chosen": 0.8, "p_target": 0.8}
    for i in range(40) for n in range(2)])  # fmt: skip


def settings(**rl: object) -> Settings:
    return load_settings({"rl": rl}, environment={})


def trained(chosen: Settings, pairs: pl.DataFrame) -> pl.DataFrame:
    return trainings.reinforcement_columns(trainings.reinforcement_rows(chosen, CONSTITUTION, pairs))


def test_each_prompt_comes_once_and_a_stable_share_is_held_out() -> None:
    rows = trained(settings(held_out=0.3), PAIRS)
    assert rows.columns == ["messages", "held_out"]
    assert rows.height == 40
    assert 4 <= rows["held_out"].sum() <= 20
    fewer = trained(settings(held_out=0.3), PAIRS.head(40))
    assert fewer.equals(rows.filter(pl.col("messages").is_in(fewer["messages"].implode())))
    assert held_out(PAIRS, 0.0) == set()
    assert len(held_out(PAIRS, 1e-9)) == 1
    assert held_out(PAIRS.head(1), 0.5) in (set(), {"p0"})


def test_the_reward_model_was_not_trained_on_what_is_held_out() -> None:
    trained_on = comparisons(PAIRS, 0.2).filter(~pl.col("held_out"))["prompt_id"]
    assert not held_out(PAIRS, 0.2) & set(trained_on)


def test_dpo_gets_the_graded_pairs_and_the_labeller_its_requests() -> None:
    rows = trained(settings(algorithm="dpo", reward="labeller"), PAIRS)
    assert rows.columns == ["messages", "chosen", "rejected", "p_chosen", "held_out", "request"]
    assert rows.height == 80
    assert rows["held_out"].sum() % 2 == 0
    known = {p.preference for p in CONSTITUTION.taking_part("preference")}
    assert set(rows["request"]) <= known
    graded = trainings.reinforcement_rows(settings(algorithm="dpo", reward="labeller"), CONSTITUTION, PAIRS)
    assert graded["graded_by"].is_not_null().to_list() == graded["held_out"].to_list()
    ungraded = PAIRS.with_columns(p_target=pl.lit(None, dtype=pl.Float64))
    assert trained(settings(algorithm="dpo"), ungraded).height == 0


def test_a_prompt_knows_the_principle_that_its_responses_are_graded_by_and_is_trained_on_without_it() -> None:
    chosen = settings(algorithm="ppo", reward="labeller")
    rows = trainings.reinforcement_rows(chosen, CONSTITUTION, PAIRS)
    asked = {p.id: p.preference for p in CONSTITUTION.taking_part("preference")}
    assert [asked[name] for name in rows["graded_by"]] == rows["request"].to_list()
    assert trained(chosen, PAIRS).columns == ["messages", "held_out", "request"]
    assert "graded_by" not in trainings.reinforcement_rows(settings(), CONSTITUTION, PAIRS).columns


def key_of(chosen: Settings, **more: object) -> str:
    rows = pl.DataFrame({"messages": [["x"]]})
    parts = identity.training_parts(chosen, "reinforcement", rows, BASE, **more)  # type: ignore[arg-type]
    return identity.training_key("reinforcement", parts)


def key(**rl: object) -> str:
    return key_of(settings(**rl), reward_model="k1:x")


@pytest.mark.parametrize(("algorithm", "unread", "read"), [
    ("ppo", {"group": 8, "epochs": 3.0, "kl_budget": 3.0, "save_every": 7}, {"clip": 0.1}),
    ("grpo", {"gamma": 0.5, "kl_in": "loss", "value_clip": 0.1}, {"group": 8}),
    ("rloo", {"gae_lambda": 0.5, "value_coefficient": 0.5}, {"ppo_epochs": 3}),
    ("dpo", {"steps": 9, "rollouts": 16, "clip": 0.1, "group": 8}, {"epochs": 3.0}),
])  # fmt: skip
def test_a_key_holds_what_the_algorithm_reads(
    algorithm: str, unread: dict[str, object], read: dict[str, object]
) -> None:
    usual = key(algorithm=algorithm)
    for name, value in unread.items():
        assert key(algorithm=algorithm, **{name: value}) == usual, name
    for name, value in (read | {"alpha": 1.0, "beta": 0.3, "best": "reward", "reward": "labeller"}).items():
        assert key(algorithm=algorithm, **{name: value}) != usual, name
    assert key(algorithm=algorithm, best="reward", save_every=7) != key(algorithm=algorithm, best="reward")


def test_a_key_holds_who_grades_and_what_is_mixed_in() -> None:
    rows = pl.DataFrame({"messages": [["x"]]})
    keys = [key_of(settings(), **more) for more in (
        {}, {"labeller": BASE}, {"supervised": rows}, {"labeller": BASE, "supervised": rows})]
    assert len(set(keys)) == 4
