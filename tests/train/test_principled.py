"""A reward model that reads principles, on planted votes: two principles that prefer opposite words."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")

from rl_task import LEARN
from tiny_models import WORDS, make_job, prompt_data, tiny_model, user

from cai_assets.engines.protocol import Message
from cai_assets.evals.rubric import Part, Response
from cai_assets.lineage.rollouts import ROLLOUTS_WRITTEN
from cai_assets.settings import Reward
from cai_assets.train import reward
from cai_assets.train.feedback import reward_of
from cai_assets.train.principled import conditioned, scorer
from cai_assets.train.progress import Curves, Reporter
from cai_assets.train.reinforcement import run as run_job

EXTRA = ["system", "Judge", "the", "assistant's", "last", "answer", "by", "this", "principle:", "warm", "cold", "even"]
PRINCIPLES = {"likes-yes": "warm", "likes-no": "cold"}


def votes(n: int, held_out: int, principles: dict[str, str] = PRINCIPLES) -> list[dict[str, Any]]:
    """Each pair once by each principle: 'warm' prefers the answer that says yes, all others that which says no."""
    rows = []
    for i in range(n):
        words = f"{WORDS[i % 7 + 3]} {WORDS[(i * 5) % 7 + 3]}"
        sides = (f"yes {words}", f"no {words}")
        for principle_id, text in principles.items():
            chosen, rejected = sides if text == "warm" else sides[::-1]
            rows.append({"messages": user(WORDS[i % 15]), "chosen": chosen, "rejected": rejected, "p_chosen": 0.95,
                         "held_out": i < held_out, "principle": text, "principle_id": principle_id})
    return rows


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("words"), words=EXTRA)


@pytest.fixture(scope="module")
def trained(words: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    job = make_job(tmp_path_factory.mktemp("votes"), "reward", words, votes(96, 32), input="principle", epochs=8,
                   controls="all", learning_rate=2e-3)
    reward.run(job, Reporter(lambda _: None))
    return job.final, json.loads(job.metrics.read_text())


def value(metrics: dict[str, Any], control: str, principle: str = "") -> float:
    number: float = metrics["principles"][control][principle]["value"]
    return number


def test_it_separates_what_a_blind_one_cannot(trained: tuple[Path, dict[str, Any]]) -> None:
    _, metrics = trained
    assert all(value(metrics, "own", name) >= 0.9 for name in PRINCIPLES)
    for control in ("blind", "shuffled"):
        estimate = metrics["principles"][control][""]
        assert estimate["low"] < 0.5 < estimate["high"], control
    assert metrics["principles"]["own"][""]["low"] > metrics["principles"]["blind"][""]["high"]


def test_a_principle_that_negates_the_others_is_below_chance_where_it_was_left_out(
    trained: tuple[Path, dict[str, Any]]
) -> None:
    left_out = trained[1]["principles"]["left_out"]
    assert set(left_out) == set(PRINCIPLES)
    assert all(estimate["high"] < 0.5 for estimate in left_out.values())


def test_nothing_of_the_controls_is_published_and_the_curves_are_its_own(trained: tuple[Path, dict[str, Any]]) -> None:
    folder, metrics = trained
    assert not [*folder.parent.glob("control-*")]
    assert metrics["steps"] == 128 * 8 // 8


def test_in_rl_the_reward_is_the_weighted_sum_over_principles(trained: tuple[Path, dict[str, Any]], words: Path,
                                                              tmp_path: Path) -> None:
    from cai_assets.engines.templating import load_tokenizer
    from cai_assets.settings import Reinforcement

    folder, _ = trained
    tokenizer = load_tokenizer(words)
    ids = [tokenizer("yes one", add_special_tokens=False)["input_ids"],
           tokenizer("no one", add_special_tokens=False)["input_ids"]]

    def rewards(warm: float, cold: float) -> list[float]:
        parts = tuple(Part(kind="scored", principle=name, digest="d", weight=weight, question=text)
                      for (name, text), weight in zip(PRINCIPLES.items(), (warm, cold), strict=True) if weight)
        job = make_job(tmp_path, "reinforcement", words, prompt_data(), reward_model=folder).model_copy(
            update={"rewards": parts})
        found = reward_of(job, Reinforcement.model_validate(job.settings), tokenizer)
        assert found is not None
        return found(prompts=[[1], [1]], completion_ids=ids, messages=[user("red"), user("red")])

    each = scorer(folder, 4, "float32")([Response(user("red"), text, ()) for text in ("yes one", "no one")],
                                        list(PRINCIPLES.values()))
    assert rewards(0.7, 0.3) == pytest.approx([0.7 * w + 0.3 * c for w, c in each], abs=1e-5)
    assert rewards(1, 0)[0] > rewards(1, 0)[1]
    assert rewards(0, 1)[0] < rewards(0, 1)[1], "a dropped principle is left out of the sum"


@pytest.mark.parametrize("algorithm", [pytest.param("ppo", marks=pytest.mark.long), "grpo"])
def test_rl_learns_what_the_weights_say_and_keeps_each_score(
    algorithm: str, trained: tuple[Path, dict[str, Any]], words: Path, tmp_path: Path
) -> None:
    def run(name: str, warm: float, cold: float) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        parts = tuple(Part(kind="scored", principle=i, digest="d", weight=weight, question=text)
                      for (i, text), weight in zip(PRINCIPLES.items(), (warm, cold), strict=True))
        job = make_job(tmp_path / name, "reinforcement", words, prompt_data(), reward_model=trained[0],
                       **(LEARN | {"algorithm": algorithm, "group": 4, "max_tokens": 6, "beta": 0.01}))
        run_job(job.model_copy(update={"rewards": parts}), Reporter(lambda _: None))
        written = (job.work / ROLLOUTS_WRITTEN).read_text().splitlines()
        return Curves(job.curves).rows(), [json.loads(line) for line in written]

    curve, rollouts = run("warm", 0.9, 0.1)
    other, _ = run("cold", 0.1, 0.9)
    part = "part/scored:likes-yes"
    first, last = (sum(row[part] for row in rows) / len(rows) for rows in (curve[:3], curve[-3:]))
    assert last > first
    assert last > sum(row[part] for row in other[-3:]) / 3, "the other weights teach the opposite"
    assert len(rollouts) == 25 * 16
    assert [(s["kind"], s["principle_id"]) for s in rollouts[0]["scores"]] == [
        ("scored", "likes-yes"), ("scored", "likes-no")]


def test_a_reward_model_is_taken_as_it_is_and_measured(trained: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    folder, _ = trained
    data = [{**row, "held_out": True} for row in votes(24, 24)]
    job = make_job(tmp_path, "reward", folder, data, input="principle", model={"source": str(folder)})
    reward.run(job, Reporter(lambda _: None))
    taken = json.loads(job.metrics.read_text())
    assert taken["taken"] is True
    assert value(taken, "own") >= 0.9
    assert set(taken["principles"]) == {"own", "shuffled"}
    texts = [Response(user("red"), "yes one", ())]
    assert scorer(job.final, 4, "float32")(texts, ["warm"]) == scorer(folder, 4, "float32")(texts, ["warm"])


def test_the_principle_stands_before_the_conversation() -> None:
    turns: list[Message] = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]
    seen = conditioned(turns, "Which is kinder?")
    assert [m["role"] for m in seen] == ["system", "user"]
    assert seen[0]["content"].index("Which is kinder?") < seen[0]["content"].index("Be brief.")
    assert conditioned(turns, None) == turns


def test_peoples_comparisons_name_no_principle() -> None:
    with pytest.raises(ValueError, match="votes of principles"):
        Reward.model_validate({"input": "principle", "human": {"path": "people.jsonl", "share": 0.5}})
