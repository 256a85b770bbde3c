"""The labeler as the reward: its grades are the exact probabilities, and training on them needs no reward model."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("trl")

from rl_task import SMALL, data  # noqa: E402
from tiny_models import make_job, tiny_model, tiny_tokenizer, user  # noqa: E402

from cai_assets.engines.templating import Templater  # noqa: E402
from cai_assets.settings import Reinforcement  # noqa: E402
from cai_assets.steps.grade import GRADES, expected_grade, grade_call  # noqa: E402
from cai_assets.train.__main__ import run_job  # noqa: E402
from cai_assets.train.feedback import labeller_reward, reward_of  # noqa: E402
from cai_assets.train.problems import TrainingProblem  # noqa: E402
from cai_assets.train.progress import Curves, Reporter  # noqa: E402
from cai_assets.train.run import load_causal  # noqa: E402


@pytest.fixture(scope="module")
def labeller(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model whose tokenizer knows the grades, and whose context holds the frame."""
    return tiny_model(tmp_path_factory.mktemp("labeller"), words=list(GRADES), context=1024)


def test_the_reward_is_the_expected_grade_of_each_response(labeller: Path) -> None:
    policy = tiny_tokenizer()
    responses = [policy.convert_tokens_to_ids(["yes", "no", "<|im_end|>"]), policy.convert_tokens_to_ids(["hello"])]
    logged: dict[str, float] = {}
    rewards = labeller_reward(labeller, policy, "float32")(
        prompts=[[1], [2]], completion_ids=responses, messages=[user("red"), user("blue one")],
        request=["good", "bad"], log_metric=logged.__setitem__)  # fmt: skip
    assert logged == {"ours/ungraded": 0}
    assert all(-1 < r < 1 for r in rewards)
    templater = Templater(tiny_tokenizer(words=list(GRADES)))
    model = load_causal(labeller)
    for reward, text, question, wish in zip(rewards, ("yes no", "hello"), ("red", "blue one"), ("good", "bad"),
                                            strict=True):
        ids = templater.encode(grade_call(user(question), text, wish, "chat"))  # type: ignore[arg-type]
        logps = model(torch.tensor([ids])).logits[0, -1].log_softmax(-1)
        grades = [logps[t].item() for t in templater.answer_tokens(GRADES)]
        assert reward == pytest.approx(expected_grade(grades), abs=1e-2)


def test_a_labeller_that_cannot_grade_stops_the_training_and_says_why(tmp_path: Path) -> None:
    unfit = tiny_model(tmp_path)  # its tokenizer knows no digit
    reward = labeller_reward(unfit, tiny_tokenizer(), "float32")
    with pytest.raises(TrainingProblem, match=r"could not grade any of 1 responses: .*share a first token"):
        reward(prompts=[[1]], completion_ids=[[5]], messages=[user("red")], request=["good"])


@pytest.mark.parametrize("algorithm", [pytest.param("ppo", marks=pytest.mark.long), "grpo", "rloo", "dpo"])
def test_the_policy_is_trained_without_a_reward_model(algorithm: str, labeller: Path, tmp_path: Path) -> None:
    base = tiny_model(tmp_path / "base")
    rows = [row | {"request": f"good {i % 2}"} for i, row in enumerate(data(algorithm, held_out=3))]
    job = make_job(tmp_path, "reinforcement", base, rows, **(SMALL | {
        "algorithm": algorithm, "reward": "labeller", "epochs": 1}))  # fmt: skip
    with pytest.raises(TrainingProblem, match="names no labeler"):
        reward_of(job, Reinforcement.model_validate(job.settings), tiny_tokenizer())
    run_job(job.model_copy(update={"labeller": labeller}), Reporter(lambda _: None))
    metrics = json.loads(job.metrics.read_text())
    assert -3 < metrics["held_out_reward_first"] < 1
    assert metrics["held_out_n"] == 3
    if algorithm != "dpo":
        assert Curves(job.curves).rows()[0]["ungraded"] == 0
