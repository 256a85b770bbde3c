from __future__ import annotations

import math
from pathlib import Path

import polars as pl
import pytest
from oracle import Oracle

from cai_assets.constitution.model import Constitution, Principle
from cai_assets.engines.protocol import Request
from cai_assets.settings import Labels, Pairs
from cai_assets.steps.answers import Answer, verdict
from cai_assets.steps.comparisons import comparisons
from cai_assets.steps.complete import Completer
from cai_assets.steps.label import label_pairs
from cai_assets.steps.pair import pair_responses
from cai_assets.steps.questions import Question
from cai_assets.store.layout import Layout
from cai_assets.store.row_store import RowStore

CONSTITUTION = Constitution(name="c", version="v1", principles=tuple(
    Principle(id=f"p{i}", preference=f"Prefer by rule {i}.") for i in range(4)))


def prompts(n: int = 12) -> pl.DataFrame:
    return pl.DataFrame([{"prompt_id": f"q{i:03d}", "kind": "red-team", "category": "x",
                          "messages": [{"role": "user", "content": f"Question {i}?"}]} for i in range(n)])


def complete(root: Path, engine: Oracle) -> Completer:
    return Completer(engine, RowStore(Layout(root)), seed=0)


def pairs(root: Path, engine: Oracle | None = None, **settings: int) -> pl.DataFrame:
    return pair_responses(prompts(), complete=complete(root, engine or Oracle()), settings=Pairs(**settings),  # type: ignore[arg-type]
                          max_tokens=8)


def test_pairs_are_two_different_samples_of_each_prompt(tmp_path: Path) -> None:
    frame = pairs(tmp_path, candidates=4)
    assert frame.height == 24
    assert frame["pair_id"].n_unique() == 24
    assert frame.filter(pl.col("row_key_a") == pl.col("row_key_b")).height == 0
    assert frame["identical"].sum() == 0


def test_a_failed_response_is_a_pair_with_its_reason(tmp_path: Path) -> None:
    frame = pairs(tmp_path, Oracle(fails=lambda r: r.call.sample == 1 and "Question 3?" in str(r.call.messages)))
    assert frame.height == 12
    assert frame.filter(pl.col("error").is_not_null())["error"].to_list() == ["response B: failed on purpose"]


class PrefersLonger(Oracle):
    """A labeler with a known preference and no place bias: the response with the later letter sum wins."""

    def __init__(self, texts: dict[str, str]) -> None:
        super().__init__()
        self.texts = texts

    def run(self, requests):  # type: ignore[no-untyped-def]
        for result in super().run(requests):
            shown = self.calls[-1].call.messages[-1]["content"]
            first, second = sorted(self.texts, key=lambda t: shown.find(t) if t in shown else 10**9)[:2]
            a = 0.9 if self.texts[first] > self.texts[second] else 0.1
            yield result.model_copy(update={"logprobs": (math.log(a), math.log(1 - a))})


def test_a_labeller_with_a_preference_is_followed_in_both_orders(tmp_path: Path) -> None:
    frame = pairs(tmp_path)
    texts = {t: t for c in ("response_a", "response_b") for t in frame[c].to_list()}
    labeled = label_pairs(frame, CONSTITUTION, complete=complete(tmp_path, PrefersLonger(texts)),
                           settings=Labels(style="plain"))
    want = ["A" if a > b else "B" for a, b in zip(frame["response_a"], frame["response_b"], strict=True)]
    assert labeled["label"].to_list() == want
    assert labeled["p_chosen"].to_list() == pytest.approx([0.9] * 12)
    assert all(c > r for c, r in zip(labeled["chosen"], labeled["rejected"], strict=True))
    assert set(labeled["principle_id"]) <= {"p0", "p1", "p2", "p3"}


class PrefersFirst(Oracle):
    def run(self, requests):  # type: ignore[no-untyped-def]
        for result in super().run(requests):
            yield result.model_copy(update={"logprobs": (math.log(0.8), math.log(0.2))})


def test_a_labeller_that_only_sees_the_place_gives_ties_that_train_nothing(tmp_path: Path) -> None:
    labeled = label_pairs(pairs(tmp_path), CONSTITUTION, complete=complete(tmp_path, PrefersFirst()),
                           settings=Labels(style="plain"))
    assert set(labeled["label"]) == {"tie"}
    assert labeled["p_a"].to_list() == pytest.approx([0.5] * 12)


def test_failed_and_identical_pairs_are_ungraded_rows(tmp_path: Path) -> None:
    frame = pairs(tmp_path).with_columns(identical=pl.col("prompt_id") == "q001")
    seen: list[Request] = []

    def fails(r: Request) -> bool:
        seen.append(r)
        return "Question 5?" in str(r.call.messages)

    labeled = label_pairs(frame, CONSTITUTION, complete=complete(tmp_path, Oracle(fails=fails)),
                           settings=Labels(style="plain"))
    assert labeled.height == 12
    ungraded = labeled.filter(pl.col("label") == "ungraded")
    assert dict(ungraded.select("prompt_id", "error").iter_rows()) == {
        "q001": "identical responses", "q005": "failed on purpose"}
    assert len(seen) == 22
    assert comparisons(labeled, 0.2).height == 10


def test_held_out_is_stable_and_by_prompt(tmp_path: Path) -> None:
    labeled = label_pairs(pairs(tmp_path, candidates=6), CONSTITUTION, complete=complete(tmp_path, Oracle()),
                           settings=Labels(style="plain"))
    rows = comparisons(labeled, 0.4)
    assert rows.group_by("prompt_id").agg(pl.col("held_out").n_unique())["held_out"].unique().to_list() == [1]
    fewer = comparisons(labeled.filter(pl.col("prompt_id") != "q000"), 0.4)
    assert rows.filter(pl.col("prompt_id") != "q000").equals(fewer)


@pytest.mark.parametrize(("logprobs", "want"), [((-1.0, -1.0), 0.5), ((0.0, -800.0), 1.0), ((-800.0, 0.0), 0.0),
                                                ((float("-inf"), float("-inf")), None), ((None, -1.0), None)])
def test_probability_of_a(logprobs: tuple[float | None, float | None], want: float | None) -> None:
    got = Answer(Question({}, None, "", "first", 0), *logprobs, "key").p_a
    assert got == want if want is None else got == pytest.approx(want)


@pytest.mark.parametrize(("orders", "want"), [((0.9, 0.8), "A"), ((0.1, 0.2), "B"), ((0.9, 0.1), "tie"),
                                              ((0.5, 0.9), "tie"), ((None, 0.9), "ungraded")])
def test_verdict(orders: tuple[float | None, float | None], want: str) -> None:
    assert verdict(*orders) == want
