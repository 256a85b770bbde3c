"""The verdicts on a reward model, from the figures in its record."""

from __future__ import annotations

from typing import Any, cast

import pytest

from cai_assets.defs.checks.preference import beats_baselines, beats_chance, is_calibrated, not_only_length
from cai_assets.evals.reward import Result, measure
from cai_assets.pipeline.project import Project
from cai_assets.store.records import Record

NONE = cast(Project, None)


def record(rows: list[dict[str, Any]], margins: list[float], **settings: float) -> Record:
    results = [Result(i, m, 0.0, rows[i]["p_chosen"]) for i, m in enumerate(margins)]
    return Record(asset="reward_model", partition="v", digest="d", path="p",
                  details={"metrics": {"held_out": measure(rows, results)}},
                  settings={"reward": {"margin": 0.0, **settings}})


def rows(n: int, p: float = 1.0) -> list[dict[str, Any]]:
    return [{"chosen": f"w{i} " * (1 + i % 3), "rejected": f"v{i} " * (1 + (i + 1) % 3), "p_chosen": p,
             "held_out": True} for i in range(n)]


def test_a_model_that_is_always_right_beats_chance_and_baselines() -> None:
    made = record(rows(60), [5.0] * 60)
    assert beats_chance(NONE, made, None)[0]
    passed, why, numbers = beats_baselines(NONE, made, None)
    assert passed
    assert "tfidf" in why
    assert numbers == {"n": 60}


def test_a_model_that_is_right_where_length_is_does_not_beat_it() -> None:
    data = rows(60)
    made = record(data, [float(len(r["chosen"]) - len(r["rejected"])) for r in data])
    assert not beats_baselines(NONE, made, None)[0]


@pytest.mark.parametrize("judge", [beats_chance, beats_baselines, is_calibrated, not_only_length])
@pytest.mark.parametrize("n", [0, 3])
def test_too_few_pairs_never_pass(judge: Any, n: int) -> None:
    passed, why, _ = judge(NONE, record(rows(n), [5.0] * n), None)
    assert not passed
    assert judge is beats_chance or "too few to tell" in why


def test_calibration_has_its_limit() -> None:
    assert is_calibrated(NONE, record(rows(40, 0.9), [2.2] * 40), None)[0]
    passed, why, numbers = is_calibrated(NONE, record(rows(40, 0.6), [9.0] * 40, margin=1.0), None)
    assert not passed
    assert "limit 0.1" in why
    assert "reward.margin" in why
    assert numbers["calibration_error"] == pytest.approx(0.4, abs=0.01)


def test_a_reward_that_is_only_length_is_caught() -> None:
    data = [{"chosen": "x" * (2 + i), "rejected": "x", "p_chosen": 1.0, "held_out": True} for i in range(40)]
    assert not not_only_length(NONE, record(data, [float(i + 1) for i in range(40)]), None)[0]
    assert not_only_length(NONE, record(data, [float((i * 7) % 5) for i in range(40)]), None)[0]
