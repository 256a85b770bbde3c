"""Priorities in a vote, and reasons in prompts: who decides, what is stored, and whose keys a reason moves."""

from __future__ import annotations

import math
from pathlib import Path

import polars as pl
import pytest
from model_fixtures import prepared_model
from ruled_labellers import completer, labeller, parts

from cai_assets.constitution.model import Constitution, Principle
from cai_assets.engines.scripted import Scripted
from cai_assets.engines.transformers_engine import TransformersEngine
from cai_assets.settings import Critique, Engine, Generation, Labels
from cai_assets.steps.critique import critique_and_revise
from cai_assets.steps.label import label_pairs

PAIRS = pl.DataFrame([{
    "pair_id": f"q{i}-0", "prompt_id": f"q{i}", "messages": [{"role": "user", "content": f"Question {i}?"}],
    "response_a": f"first {i}", "response_b": f"second {i}", "identical": False, "error": None} for i in range(4)],
    schema_overrides={"error": pl.String})


def constitution(high: int = 1, low: int = 2, **why: str) -> Constitution:
    return Constitution(name="c", version="v1", principles=(
        Principle(id="safe", preference="Which is safer?", priority=high, why=why.get("safe")),
        Principle(id="kind", preference="Which is kinder?", priority=high, why=why.get("kind")),
        Principle(id="short", preference="Which is shorter?", priority=low, why=why.get("short"))))


def rule(first: dict[str, float], *, order: bool = False) -> object:
    """``first``: by the word in the request, the probability that the answer 'first' is the better one."""
    def p(question: str, a: str, _: str) -> float:
        own = next(v for word, v in first.items() if word in question)
        return own if order or a.startswith("first") else 1 - own
    return p


def label(root: Path, c: Constitution, first: dict[str, float], **settings: object) -> tuple[pl.DataFrame, Scripted]:
    engine = labeller(rule(first))  # type: ignore[arg-type]
    own = Labels(principles="vote", **settings)  # type: ignore[arg-type]
    return label_pairs(PAIRS, c, complete=completer(root, engine), settings=own), engine


@pytest.mark.parametrize(("first", "p_a", "tier"), [
    ({"safer": 0.9, "kinder": 0.7, "shorter": 0.01}, 0.8, 1),  # the lower tier is not heard
    ({"safer": 0.9, "kinder": 0.1, "shorter": 0.1}, 0.1, 2),  # the higher one contradicts itself
    ({"safer": 0.52, "kinder": 0.5, "shorter": 0.53}, 0.516667, None)])  # nobody decides: all of them together
def test_a_lower_tier_decides_only_where_the_higher_is_undecided(
        tmp_path: Path, first: dict[str, float], p_a: float, tier: int | None) -> None:
    labeled, _ = label(tmp_path, constitution(), first)
    assert labeled["p_a"].to_list() == pytest.approx([p_a] * 4, abs=1e-5)
    assert labeled["decided_by"].to_list() == [tier] * 4
    assert labeled["label"].to_list() == ["A" if p_a > 0.5 else "B"] * 4
    assert [len(v) for v in labeled["votes"]] == [3] * 4  # every vote is kept


def test_another_priority_or_margin_counts_the_same_votes_again_without_a_call(tmp_path: Path) -> None:
    first = {"safer": 0.9, "kinder": 0.7, "shorter": 0.1}
    labeled, engine = label(tmp_path, constitution(), first)
    assert engine.calls == 4 * 3 * 2
    turned, engine = label(tmp_path, constitution(high=2, low=1), first)
    assert engine.calls == 0
    assert turned["label"].to_list() == ["B"] * 4
    assert turned["principle_digest"][0] != labeled["principle_digest"][0]
    wide, engine = label(tmp_path, constitution(), first, undecided=0.35)
    assert (engine.calls, wide["decided_by"][0]) == (0, 2)


def test_one_tier_is_labeled_as_before(tmp_path: Path) -> None:
    labeled, _ = label(tmp_path, constitution(low=1), {"safer": 0.9, "kinder": 0.7, "shorter": 0.2})
    same, engine = label(tmp_path, constitution(high=3, low=3), {"safer": 0.9, "kinder": 0.7, "shorter": 0.2})
    assert "decided_by" not in labeled.columns
    assert engine.calls == 0
    assert same.equals(labeled)
    assert labeled["p_a"].to_list() == pytest.approx([0.6] * 4)


def test_a_tier_that_cannot_be_read_is_not_spoken_for(tmp_path: Path) -> None:
    engine = Scripted("l", score=lambda call, _: (-math.inf,) * 2 if "safer" in parts(call)[0] else (-0.1, -3.0))
    settings = Labels(principles="vote")
    labeled = label_pairs(PAIRS, constitution(), complete=completer(tmp_path, engine), settings=settings)
    assert labeled["label"].to_list() == ["ungraded"] * 4
    assert labeled["error"].null_count() == 0


@pytest.mark.parametrize("principles", ["drawn", "vote"])
def test_a_changed_reason_moves_only_keys_that_show_it(tmp_path: Path, principles: str) -> None:
    first = {"safer": 0.9, "kinder": 0.7, "shorter": 0.2}
    engine = labeller(rule(first))  # type: ignore[arg-type]
    complete = completer(tmp_path, engine)

    def asked(c: Constitution, *, why: bool) -> pl.DataFrame:
        before = engine.calls
        labeled = label_pairs(PAIRS, c, complete=complete, settings=Labels(principles=principles, why=why))  # type: ignore[arg-type]
        counts.append(engine.calls - before)
        return labeled

    counts: list[int] = []
    plain = asked(constitution(), why=False)
    asked(constitution(kind="Warmth helps."), why=False)
    asked(constitution(), why=True)  # no principle has a reason, so no prompt shows one
    asked(constitution(kind="Warmth helps."), why=True)
    asked(constitution(kind="Warmth heals."), why=True)
    drew = 4 if principles == "vote" else plain.filter(principle_id="kind").height
    assert counts == [counts[0], 0, 0, 2 * drew, 2 * drew]
    assert principles == "drawn" or counts[0] == 24


def test_critics_read_the_reason_once_and_only_if_asked(tmp_path: Path) -> None:
    seen: list[str] = []

    def reply(call: object, _: object) -> str:
        seen.append("\n".join(m["content"] for m in call.messages))  # type: ignore[attr-defined]
        return f"reply {len(seen)}"

    c = Constitution(name="c", version="v1", principles=(
        Principle(id="p", critique="Find harm.", revision="Remove harm.", why="Harm lasts."),))
    hi = [{"role": "user", "content": "Hi"}]
    responses = pl.DataFrame([{"prompt_id": "q", "messages": hi, "response": "Go away.", "error": None, "row_id": "r"}],
                             schema_overrides={"error": pl.String})
    for settings in (Critique(rounds=1), Critique(rounds=1, why=True), Critique(rounds=1, why=True, mode="direct")):
        critique_and_revise(responses, c, complete=completer(tmp_path, Scripted("critic", reply=reply)),  # type: ignore[arg-type]
                            settings=settings, generation=Generation())
    assert len(seen) == 5  # no key is shared between a prompt with the reason and one without
    assert [text.count("Harm lasts.") for text in seen] == [0, 0, 1, 1, 1]


@pytest.mark.model
def test_the_real_model_votes_in_tiers_and_by_reasons(tmp_path: Path) -> None:
    model = prepared_model()
    engine = TransformersEngine(model.path, model.identity, Engine(max_model_len=512, dtype="float32"))
    c = constitution(kind="Warmth helps people to listen.")
    settings = Labels(principles="vote", undecided=0.2, few_shots=False, why=True)
    labeled = label_pairs(PAIRS[:1], c, complete=completer(tmp_path, engine), settings=settings)
    engine.close()
    (row,) = labeled.to_dicts()
    votes = {v["principle_id"]: v["p_a"] for v in row["votes"]}
    high = (votes["safe"] + votes["kind"]) / 2
    tiers = [(1, high), (2, votes["short"]), (None, sum(votes.values()) / 3)]
    number, p = next((n, p) for n, p in tiers if n is None or abs(p - 0.5) >= 0.2)
    assert row["decided_by"] == number
    assert row["p_a"] == pytest.approx(p)
