"""Every way to label, with labelers whose probability is known."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from ruled_labellers import Rule, completer, labeller, parts, prefers

from cai_assets.constitution.digest import digest
from cai_assets.constitution.model import Constitution, FewShots, PreferenceShot, Principle
from cai_assets.engines.protocol import Call, Request, Style
from cai_assets.engines.scripted import Scripted
from cai_assets.settings import Labels
from cai_assets.steps.compare import REASONS, VERDICT
from cai_assets.steps.comparisons import comparisons
from cai_assets.steps.label import LABEL, label_pairs
from cai_assets.steps.questions import calls_per_pair
from cai_assets.steps.thought import THOUGHT

SHOT = PreferenceShot(prompt="Hi", a="Hello.", b="Go away.", request="Which is kinder?", choice="A")
CONSTITUTION = Constitution(
    name="c", version="v1", few_shots=FewShots(preference=(SHOT,)),
    principles=tuple(Principle(id=f"p{i}", preference=f"Prefer by rule {i}.") for i in (2, 0, 1)))
MODES: list[dict[str, Any]] = [
    {}, {"principles": "all"}, {"principles": "vote"}, {"chain_of_thought": True, "samples": 3},
    {"principles": "vote", "chain_of_thought": True, "samples": 2, "style": "plain"},
    {"principles": "all", "chain_of_thought": True},
]
NEEDED = {"pair_id": pl.String, "prompt_id": pl.String,
          "messages": pl.List(pl.Struct({"role": pl.String, "content": pl.String})), "response_a": pl.String,
          "response_b": pl.String, "identical": pl.Boolean, "error": pl.String}


def pairs(n: int = 4) -> pl.DataFrame:
    return pl.DataFrame([{
        "pair_id": f"q{i}-0", "prompt_id": f"q{i}", "messages": [{"role": "user", "content": f"Question {i}?"}],
        "response_a": f"good {i}" if i % 2 else f"bad {i}", "response_b": f"bad {i}" if i % 2 else f"good {i}",
        "identical": False, "error": None,
    } for i in range(n)], schema=NEEDED)


def label(root: Path, rule: Rule, frame: pl.DataFrame | None = None, c: Constitution = CONSTITUTION,
          **settings: Any) -> pl.DataFrame:
    return label_pairs(pairs() if frame is None else frame, c, complete=completer(root, labeller(rule)),
                       settings=Labels(**settings))


def recomputed(row: Mapping[str, Any]) -> tuple[float, float, float]:
    """p_a_first, p_a_second and p_a from the log-probabilities in ``calls`` alone."""
    def p(order: str) -> float:
        own = [c for c in row["calls"] if c["order"] == order]
        return sum(math.exp(c["logp_a"]) / (math.exp(c["logp_a"]) + math.exp(c["logp_b"])) for c in own) / len(own)

    return p("first"), p("second"), (p("first") + p("second")) / 2


@pytest.mark.parametrize("settings", MODES, ids=str)
def test_a_known_probability_is_recovered_and_can_be_recomputed(tmp_path: Path, settings: dict[str, Any]) -> None:
    engine = labeller(prefers("good"))
    labeled = label_pairs(pairs(), CONSTITUTION, complete=completer(tmp_path, engine), settings=Labels(**settings))
    assert labeled["p_a"].to_list() == pytest.approx([0.2, 0.8, 0.2, 0.8])
    assert labeled["label"].to_list() == ["B", "A", "B", "A"]
    assert labeled["p_chosen"].to_list() == pytest.approx([0.8] * 4)
    assert labeled["disagreement"].to_list() == pytest.approx([0.0] * 4)
    assert all(c.startswith("good") for c in labeled["chosen"])
    assert labeled["labeller"].unique().to_list() == ["scripted:labeller"]
    for row in labeled.to_dicts():
        assert recomputed(row) == pytest.approx((row["p_a_first"], row["p_a_second"], row["p_a"]))
        assert row["row_keys"] == [k for c in row["calls"] for k in (c["thought_key"], c["row_key"]) if k]
    per_pair = calls_per_pair(Labels(**settings), CONSTITUTION)
    assert engine.calls == 4 * per_pair
    assert labeled["row_keys"].list.len().to_list() == [per_pair] * 4


@pytest.mark.parametrize("settings", MODES, ids=str)
def test_a_labeller_that_prefers_a_place_shows_itself(tmp_path: Path, settings: dict[str, Any]) -> None:
    labeled = label(tmp_path, lambda question, a, b: 0.9, **settings)
    assert labeled["label"].to_list() == ["tie"] * 4
    assert labeled["p_a"].to_list() == pytest.approx([0.5] * 4)
    assert labeled["disagreement"].to_list() == pytest.approx([0.8] * 4)
    assert labeled["p_a_first"].to_list() == pytest.approx([0.9] * 4)
    assert labeled["p_a_second"].to_list() == pytest.approx([0.1] * 4)


def test_single_calls_have_their_raw_log_probabilities_in_columns(tmp_path: Path) -> None:
    row = label(tmp_path, prefers("good")).to_dicts()[1]  # response A is the good one
    assert (row["logp_a_first"], row["logp_b_first"]) == pytest.approx((math.log(0.72), math.log(0.18)))
    assert (row["logp_a_second"], row["logp_b_second"]) == pytest.approx((math.log(0.72), math.log(0.18)))
    assert [c["row_key"] for c in row["calls"]] == [row["row_key_first"], row["row_key_second"]] == row["row_keys"]
    several = label(tmp_path, prefers("good"), principles="vote").to_dicts()[1]
    assert several["logp_a_first"] is several["logp_b_second"] is None


def test_a_vote_asks_each_principle_and_averages(tmp_path: Path) -> None:
    by_rule = {"0": 0.9, "1": 0.6, "2": 0.3}

    def rule(question: str, a: str, b: str) -> float:
        return prefers("good", by_rule[question[-2]])(question, a, b)

    row = label(tmp_path, rule, principles="vote").to_dicts()[1]
    assert [v["principle_id"] for v in row["votes"]] == ["p0", "p1", "p2"]
    assert [v["p_a"] for v in row["votes"]] == pytest.approx([0.9, 0.6, 0.3])
    assert row["p_a"] == pytest.approx(0.6)
    assert row["principle_id"] is None
    drawn = label(tmp_path, rule).to_dicts()[1]
    assert drawn["votes"] == [{"principle_id": drawn["principle_id"], "p_a": pytest.approx(drawn["p_a"])}]


def test_all_principles_stand_numbered_in_one_question(tmp_path: Path) -> None:
    seen: list[str] = []

    def rule(question: str, a: str, b: str) -> float:
        seen.append(question)
        return 0.7

    labeled = label(tmp_path, rule, principles="all")
    assert len(set(seen)) == 1
    assert "1. Prefer by rule 0.\n2. Prefer by rule 1.\n3. Prefer by rule 2.\n" in seen[0]
    assert labeled["votes"].to_list() == [[]] * 4
    assert labeled["principle_id"].null_count() == 4
    assert labeled["principle_digest"].n_unique() == 1


@pytest.mark.parametrize("style", ["plain", "chat"])
def test_examples_with_reasons_show_them_before_the_verdict_and_others_stay_out(
    tmp_path: Path, style: Style
) -> None:
    told = SHOT.model_copy(update={"prompt": "Told?", "reasons": "It is kinder.\nThe better answer is (A)"})
    c = CONSTITUTION.model_copy(update={"few_shots": FewShots(preference=(SHOT, told))})
    engine = labeller(prefers("good"))
    seen: list[str] = []
    serve = engine.run
    engine.run = lambda requests: (seen.extend(  # type: ignore[method-assign]
        "\n".join(m["content"] for m in r.call.messages) for r in requests), serve(requests))[1]
    label_pairs(pairs(1), c, complete=completer(tmp_path, engine),
                settings=Labels(chain_of_thought=True, style=style))
    assert len(seen) == 4  # in both orders reasons, then the verdict
    for text in seen:
        assert text.count("    Told?") == 1
        assert SHOT.prompt not in text
        assert f"{REASONS}\n    It is kinder.\n    The better answer is (A)\n\n{VERDICT}{told.choice})" in text
    assert sum(text.endswith(VERDICT) for text in seen) == 2
    assert sum(text.endswith(REASONS) for text in seen) == 2


def test_reasons_leave_the_keys_of_plain_labels_alone(tmp_path: Path) -> None:
    told = CONSTITUTION.model_copy(update={"few_shots": FewShots(
        preference=(SHOT.model_copy(update={"reasons": "It is kinder."}),))})
    assert label(tmp_path, prefers("good"), c=told).equals(label(tmp_path, prefers("good")))
    assert digest(told) != digest(CONSTITUTION)


@pytest.mark.parametrize("mode", ["all", "vote", "drawn"])
def test_the_order_of_the_file_changes_nothing_and_an_edit_what_it_touches(tmp_path: Path, mode: str) -> None:
    first = label(tmp_path, prefers("good"), principles=mode)
    turned = CONSTITUTION.model_copy(update={"principles": CONSTITUTION.principles[::-1]})
    assert label(tmp_path, prefers("good"), c=turned, principles=mode).equals(first)
    edited = CONSTITUTION.model_copy(update={"principles": tuple(
        p.model_copy(update={"preference": "Prefer otherwise 1."}) if p.id == "p1" else p
        for p in CONSTITUTION.principles)})
    after = label(tmp_path, prefers("good"), c=edited, principles=mode)
    touched = first["principle_digest"] != after["principle_digest"]
    assert touched.to_list() == [i == "p1" for i in first["principle_id"]] if mode == "drawn" else touched.all()
    keys = zip(first["row_keys"], after["row_keys"], strict=True)
    same = [len(set(a) & set(b)) for a, b in keys]
    assert same == {"all": [0] * 4, "vote": [4] * 4,
                    "drawn": [0 if i == "p1" else 2 for i in first["principle_id"]]}[mode]


@pytest.mark.parametrize("style", ["plain", "chat"])
def test_reasons_come_first_and_the_answer_is_read_after_them(tmp_path: Path, style: str) -> None:
    calls: list[tuple[str, Call]] = []

    def reply(call: Call, request: Request) -> str:
        calls.append(("thought", call))
        return f"Sample {call.sample}.\nAnswer (A):\nmine\n{VERDICT}A)"

    def score(call: Call, request: Request) -> tuple[float, float]:
        calls.append(("score", call))
        return (-0.1, -3.0)

    settings = Labels(chain_of_thought=True, samples=2, style=style, thought_tokens=9, thought_temperature=0.3)
    labeled = label_pairs(pairs(1), CONSTITUTION, complete=completer(tmp_path, Scripted(reply=reply, score=score)),
                           settings=settings)
    thoughts = [c for kind, c in calls if kind == "thought"]
    assert [kind for kind, _ in calls] == ["thought"] * 4 + ["score"] * 4
    assert sorted(c.sample for c in thoughts) == [0, 0, 1, 1]
    assert all(c.messages[-1]["content"].endswith(REASONS) for c in thoughts)
    assert {(c.sampling.max_tokens, c.sampling.temperature) for c in thoughts if c.sampling} == {(9, 0.3)}
    for _, scored in calls[4:]:
        tail = scored.messages[-1]["content"].split(REASONS)[-1]
        assert tail == f"\n    Sample {tail[12]}.\n    Answer (A):\n    mine\n\n{VERDICT}"
        assert SHOT.request not in str(scored.messages)
    assert {"p_a", "calls"} <= set(labeled.columns)
    store = completer(tmp_path, Scripted()).store
    stored = [set(store.lookup(step.name, labeled["row_keys"][0].to_list())) for step in (THOUGHT, LABEL)]
    assert stored[0] | stored[1] == set(labeled["row_keys"][0])
    assert stored[0] == {c["thought_key"] for c in labeled["calls"][0]}


def test_samples_are_averaged(tmp_path: Path) -> None:
    def score(call: Call, request: Request) -> tuple[float, float]:
        p = 0.9 if "Sample 0" in call.messages[-1]["content"] else 0.5
        first = "good" in parts(call)[1]
        return (math.log(p), math.log(1 - p)) if first else (math.log(1 - p), math.log(p))

    engine = Scripted(reply=lambda c, r: f"Sample {c.sample}.", score=score)
    labeled = label_pairs(pairs(2), CONSTITUTION, complete=completer(tmp_path, engine),
                           settings=Labels(chain_of_thought=True, samples=4))
    assert labeled["p_a"].to_list() == pytest.approx([1 - 0.6, 0.6])


def test_a_failed_reason_leaves_the_pair_ungraded_with_its_reason(tmp_path: Path) -> None:
    def reply(call: Call, request: Request) -> str:
        if "Question 2?" in str(call.messages) and call.sample == 1:
            raise ValueError("too long")
        return "" if "Question 3?" in str(call.messages) else "Because."

    engine = Scripted(reply=reply, score=lambda c, r: (-1.0, -1.5))
    labeled = label_pairs(pairs(), CONSTITUTION, complete=completer(tmp_path, engine),
                           settings=Labels(chain_of_thought=True, samples=2))
    assert labeled["error"].to_list() == [None, None, "too long", None]
    assert labeled["label"].to_list() == ["tie", "tie", "ungraded", "tie"]
    assert labeled["p_a"][2] is None
    assert labeled["chosen"][2] is None


@pytest.mark.parametrize("settings", MODES, ids=str)
def test_changing_the_clamp_calls_no_model(tmp_path: Path, settings: dict[str, Any]) -> None:
    plain = label(tmp_path, prefers("good"), **settings)
    engine = labeller(prefers("good"))
    clamped = label_pairs(pairs(), CONSTITUTION, complete=completer(tmp_path, engine),
                          settings=Labels(**settings, clamp=(0.4, 0.6)))
    assert engine.calls == 0
    assert clamped["p_target"].to_list() == pytest.approx([0.4, 0.6, 0.4, 0.6])
    assert clamped["p_chosen"].to_list() == pytest.approx([0.6] * 4)
    same = [c for c in plain.columns if c not in {"p_target", "p_chosen"}]
    assert clamped.select(same).equals(plain.select(same))
    assert plain["p_target"].equals(plain["p_a"], check_names=False)


def test_only_the_needed_columns_are_needed_and_the_others_are_carried_along(tmp_path: Path) -> None:
    labeled = label(tmp_path, prefers("good"), pairs().with_columns(human=pl.lit("A")))
    assert labeled["human"].to_list() == ["A"] * 4
    assert labeled["row_id"].n_unique() == 4
    assert comparisons(labeled, 0.5).height == 4


def test_an_answer_that_cannot_be_read_is_ungraded(tmp_path: Path) -> None:
    for logprobs in ((-1.0,), (-math.inf, -math.inf)):
        engine = Scripted(str(logprobs), score=lambda c, r, answer=logprobs: answer)  # type: ignore[misc]
        labeled = label_pairs(pairs(), CONSTITUTION, complete=completer(tmp_path, engine), settings=Labels())
        assert set(labeled["label"]) == {"ungraded"}
        assert set(labeled["error"]) == {"the answers' probabilities could not be read"}
        assert comparisons(labeled, 0.5).height == 0


def test_nothing_is_asked_of_a_constitution_without_preferences(tmp_path: Path) -> None:
    silent = Constitution(name="c", version="v1", principles=(Principle(id="p", critique="x", revision="y"),))
    with pytest.raises(ValueError, match="no principle has a 'preference' request"):
        label(tmp_path, prefers("good"), c=silent)
