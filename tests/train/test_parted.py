"""Rewards of several parts: planted rules are learned and control principles are not; no scale swamps another."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("trl")

from rl_task import LEARN, ONLINE, job_of, trained, trainer_of  # noqa: E402
from tiny_models import tiny_tokenizer  # noqa: E402

from cai_assets.constitution.check import Check  # noqa: E402
from cai_assets.constitution.model import Constitution, Principle  # noqa: E402
from cai_assets.engines.protocol import Call  # noqa: E402
from cai_assets.evals.rubric import Part, Response, drawn, parts_of, scores  # noqa: E402
from cai_assets.evals.weighing import (  # noqa: E402
    Share,
    as_they_are,
    gated,
    rewards,
    scale_of,
    scaled,
)
from cai_assets.steps.complete import Row  # noqa: E402
from cai_assets.train.parted import Parted  # noqa: E402
from cai_assets.train.problems import TrainingProblem  # noqa: E402

pytestmark = pytest.mark.usefixtures("exact")
UNDECIDED = 0.05
ANSWER = "Assistant:\n    "
PLANTED, CONTROL = Principle(id="planted", rubric="Does it say yes?"), Principle(id="control", rubric="Is it kind?")


def judge(rule: Callable[[str, str], float]) -> Callable[[Sequence[Call]], list[Row]]:
    """Says Yes with the probability that ``rule(question, answer)`` gives."""
    def ask(calls: Sequence[Call]) -> list[Row]:
        rows = []
        for i, call in enumerate(calls):
            text = call.messages[0]["content"]
            answer = text.rpartition(ANSWER)[2].partition("\n\n")[0]
            question = text.rpartition("Question about the assistant's last answer:\n    ")[2].partition("\n")[0]
            p = min(max(rule(question, answer), 1e-6), 1 - 1e-6)
            rows.append(Row(f"r{i}", "generated", "", "score", (math.log(p), math.log(1 - p))))
        return rows

    return ask


NOISE = np.random.default_rng(7)


def says_yes(question: str, answer: str) -> float:
    """The planted question is about the share of 'yes'; any other gets noise."""
    words = answer.split()
    return words.count("yes") / max(len(words), 1) if "say yes" in question else float(NOISE.random())


def of(*principles: Principle) -> Constitution:
    return Constitution(name="c", version="v1", principles=principles)


def reward(constitution: Constitution, rule: Callable[[str, str], float] = says_yes, checks: float = 0.0) -> Parted:
    parts = parts_of(constitution, questions=True, checks=checks, undecided=UNDECIDED)
    every = Parted(parts, ask=judge(rule), style="chat", tokenizer=tiny_tokenizer())
    score = every.score
    names = [p.id for p in constitution.principles]
    every.score = lambda **columns: score(**columns | {  # type: ignore[method-assign]
        "principles": [names] * len(columns["completion_ids"])})
    return every


@pytest.mark.parametrize("algorithm", [
    a if a == "rloo" else pytest.param(a, marks=pytest.mark.long) for a in ONLINE])
def test_a_planted_rule_is_learned_and_a_control_is_not(algorithm: str, base: Path, tmp_path: Path) -> None:
    job = job_of(tmp_path, base, algorithm=algorithm, beta=0.0, **LEARN)
    curve = trained(job, trainer_of(job, reward(of(PLANTED, CONTROL))))
    first, last = (np.mean([row["part/question:planted"] for row in rows]) for rows in (curve[:3], curve[-3:]))
    assert first < 0.3
    assert last > 0.7
    control = [np.mean([row["part/question:control"] for row in rows]) for rows in (curve[:5], curve[-5:])]
    assert abs(control[1] - control[0]) < 0.15


def test_a_part_on_a_larger_scale_does_not_swamp_another(base: Path, tmp_path: Path) -> None:
    """Beside noise that is 100 times as large and weighs as much, the planted rule is still learned."""
    job = job_of(tmp_path, base, algorithm="grpo", beta=0.0, **LEARN | {"steps": 40})
    parted = reward(of(PLANTED))
    noise = np.random.default_rng(0)
    parted.other = lambda completion_ids, **_: (100 * noise.random(len(completion_ids))).tolist()
    parted.names, parted.shares = ["reward", *parted.names], [Share(1.0), *parted.shares]
    curve = trained(job, trainer_of(job, parted))
    assert np.mean([row["part/question:planted"] for row in curve[-3:]]) > 0.6


def test_a_lower_tier_of_a_hundred_times_the_weight_does_not_teach_against_the_higher(
    base: Path, tmp_path: Path
) -> None:
    job = job_of(tmp_path, base, algorithm="rloo", beta=0.0, **LEARN)
    against = Principle(id="against", rubric="Has it other words?", weight=100, priority=2)

    def opposed(question: str, answer: str) -> float:
        p = says_yes("Does it say yes?", answer)
        return p if "say yes" in question else 1 - p

    curve = trained(job, trainer_of(job, reward(of(PLANTED, against), opposed)))
    assert np.mean([row["part/question:planted"] for row in curve[-3:]]) > 0.7


def test_parts_are_added_in_units_of_their_spread_and_a_broken_gate_takes_all() -> None:
    values = np.array([[0.0, 100.0], [1.0, 0.0], [1.0, 100.0], [0.0, 0.0]])
    units = scaled(values, values.std(axis=0))
    assert np.allclose(units.std(axis=0), 1)
    equal = rewards(values, [Share(0.5), Share(0.5)], scale_of(values))
    assert equal[0] == pytest.approx(equal[1])
    assert equal.argmax() == 2
    assert gated(values, [True, False]).tolist() == [True, False, False, True]
    assert rewards(values, [Share(0.5, gate=True), Share(0.5)], scale_of(values))[[0, 3]].tolist() == [0, 0]
    assert scaled(np.full((3, 1), 0.7), np.zeros(1)).tolist() == [[0.0]] * 3
    missing = np.array([[np.nan, 1.0], [1.0, 1.0]])
    assert rewards(missing, [Share(0.5, gate=True)] * 2, as_they_are(2)).tolist() == [0.5, 1.0]


def test_weights_are_shares_and_a_drawn_few_are_asked_alone() -> None:
    c = of(PLANTED.model_copy(update={"weight": 3.0}), CONTROL, Principle(id="rule", check=Check(max_words=2)))
    parts = parts_of(c, questions=True, checks=2.0, undecided=UNDECIDED)
    assert {p.name: p.weight for p in parts} == {"question:control": 0.25, "question:planted": 0.75, "check:rule": 2.0}
    asked = drawn(c, [f"p{i}" for i in range(400)], 1)
    assert {len(ids) for ids in asked} == {1}
    assert sum(ids == ["planted"] for ids in asked) == pytest.approx(300, abs=35)
    assert drawn(c, ["p"], None) == [["control", "planted"]]
    few = parts_of(c, questions=True, checks=0, few=1, undecided=UNDECIDED)
    assert [p.weight for p in few] == [1.0, 1.0]
    found = scores([Response([{"role": "user", "content": "x"}], "yes yes", ["planted"])], parts, ask=judge(says_yes),
                   style="chat")
    assert [s.value for s in found[0]] == [None, pytest.approx(1, abs=1e-5), 1.0]


def test_a_judge_that_cannot_be_read_stops_the_training_with_its_reason() -> None:
    parts = parts_of(of(PLANTED), questions=True, checks=0, undecided=UNDECIDED)

    def failing(calls: Sequence[Call]) -> list[Row]:
        return [Row("r", "failed", None, error="no server") for _ in calls]

    parted = Parted(parts, ask=failing, style="chat", tokenizer=tiny_tokenizer())
    with pytest.raises(TrainingProblem, match="answered none of 1 questions about responses: no server"):
        parted(completion_ids=[[5]], messages=[[{"role": "user", "content": "x"}]], principles=[["planted"]])


def test_a_part_keeps_its_digest_until_its_question_or_its_check_changes() -> None:
    def digest(p: Principle) -> str:
        (part,) = parts_of(of(p), questions=True, checks=0, undecided=UNDECIDED)
        return part.digest

    first = digest(PLANTED)
    assert digest(PLANTED.model_copy(update={"weight": 2.0, "name": "Other", "gate": True})) == first
    assert digest(PLANTED.model_copy(update={"rubric": "Does it say no?"})) != first
    assert isinstance(parts_of(of(PLANTED), questions=True, checks=0, undecided=UNDECIDED)[0], Part)
