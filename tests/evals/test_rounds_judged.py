"""Quality per round: a planted gain is seen, a planted flat is none; a missing text is no verdict; draws are stable."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import polars as pl
import pytest
from judges import ask_by

from cai_assets.engines.protocol import Call
from cai_assets.evals import rounds
from cai_assets.evals.judge import Ask
from cai_assets.evals.rounds import (
    METRICS_SCHEMA,
    ROWS_SCHEMA,
    TEXTS_SCHEMA,
    Rounds,
    draw_chains,
    gain_of,
    stops_paying,
)
from cai_assets.evals.statistics import Telling
from cai_assets.reports.rounds import chart, markdown, stop_sentence
from cai_assets.steps.complete import Row

N = 80
TELLING = Telling(0.95, 20)


def responses(n: int = N, text: str | None = "worth 0") -> pl.DataFrame:
    return pl.DataFrame([{"prompt_id": f"p{i}", "category": "c", "response": text, "row_key": f"r1:start{i}",
                          "messages": [{"role": "user", "content": f"tell me about topic{i}"}]} for i in range(n)],
                        schema_overrides={"response": pl.String})


def revisions(worth: Callable[[int, int], int | None], rounds: int = 3, n: int = N) -> pl.DataFrame:
    """The text of chain ``i`` in round ``k`` says what it is worth; None: the round failed."""
    rows = [{"prompt_id": f"p{i}", "round": k, "principle_id": f"principle-{i % 2}", "row_key": f"r1:{i}-{k}",
             "revision": None if worth(i, k) is None else f"worth {worth(i, k)}, chain {i} round {k}",
             "error": None if worth(i, k) is not None else "no memory", "stopped": None}
            for i in range(n) for k in range(1, rounds + 1)]
    return pl.DataFrame(rows, schema_overrides={"round": pl.Int32, "revision": pl.String, "error": pl.String,
                                                "stopped": pl.String})


def richer(question: str, a: str, b: str) -> float:
    """The answer that is worth more is better, with a leaning to the first place."""
    worth = [int(text.split(",")[0].split()[1]) for text in (a, b)]
    return 0.55 + 0.4 * ((worth[0] > worth[1]) - (worth[0] < worth[1]))


def measured(
    texts: pl.DataFrame, *, ask: Ask | None = None, limit: int = 1000, first: str | None = "worth 0"
) -> Rounds:
    n = texts["prompt_id"].n_unique()
    drawn = draw_chains(texts["prompt_id"].unique(), limit)
    chains = rounds.chains_of(responses(n, first), texts, drawn)
    return rounds.measured(rounds.judged(chains, ask=ask or ask_by(richer), style="plain", of=n), enough=20,
                           confidence=0.95)


def planted(share: Sequence[float]) -> Callable[[int, int], int]:
    """In round k a chain gains with the given share, else loses; what it is worth adds up."""
    steps = [np.random.default_rng(k).random(N) < s for k, s in enumerate(share)]
    return lambda i, k: 50 + sum(1 if step[i] else -1 for step in steps[:k])


def gain(found: Rounds, number: int, question: str = "harmlessness", against: str = "previous") -> dict:
    (row,) = found.metrics.filter(round=number, measure=question, against=against, kind="win rate").to_dicts()
    return row


def test_a_planted_gain_is_seen_round_by_round_and_a_planted_flat_is_none() -> None:
    shares = (0.85, 0.75, 0.5, 0.9)
    found = measured(revisions(planted(shares), rounds=4), first="worth 50")
    for number, share in enumerate(shares, start=1):
        row = gain(found, number)
        assert row["low"] <= share <= row["high"]
        assert (row["n"], row["ungraded"], row["missing"]) == (N, 0, 0)
    assert [gain(found, k)["verdict"] for k in (1, 2, 3)] == ["better", "better", "no difference seen"]
    stop = stops_paying(found.metrics, "harmlessness")
    assert (stop.round, stop.paying, stop.rounds) == (3, 2, 4)  # round 4 gains, and is not asked any more
    assert "rounds up to 2 gain; round 3 is the first with no evidence of a gain" in stop_sentence(stop, TELLING)
    assert stop.gain == gain_of(gain(found, 3))


def test_a_flat_is_called_a_gain_no_more_often_than_the_level_allows() -> None:
    """Over many histories whose round changes nothing, it looks like a gain in about 2.5 % of them."""
    false = 0
    for seed in range(12):
        coin = np.random.default_rng(seed).random(40) < 0.5
        texts = revisions(lambda i, k, c=coin: 51 if c[i] else 49, rounds=1, n=40)
        false += stops_paying(measured(texts, first="worth 50").metrics, "harmlessness").paying > 0
    assert false <= 2  # P(more than 2 of 12 at 2.5 %) is under 0.4 %


def test_a_loss_and_too_few_chains_are_named() -> None:
    lost = stops_paying(measured(revisions(lambda i, k: 50 - k), first="worth 50").metrics, "helpfulness")
    assert (lost.round, lost.verdict) == (1, "worse")
    assert "round 1 loses" in stop_sentence(lost, TELLING)
    few = stops_paying(measured(revisions(lambda i, k: k, n=19)).metrics, "harmlessness")
    assert (few.round, few.verdict) == (1, "too few to tell")
    assert "too few to tell whether round 1 gains (+0.50" in stop_sentence(few, TELLING)
    every = stops_paying(measured(revisions(lambda i, k: k)).metrics, "harmlessness")
    assert (every.round, every.paying) == (None, 3)
    assert "whether another would is not known" in stop_sentence(every, TELLING)
    nothing = stops_paying(pl.DataFrame(schema=METRICS_SCHEMA), "harmlessness")
    assert "no round was judged" in stop_sentence(nothing, TELLING)


def test_a_judge_that_sees_places_alone_tells_nothing() -> None:
    found = measured(revisions(lambda i, k: k), ask=ask_by(lambda *_: 0.9))
    assert set(found.rows["verdict"]) == {"tie"}
    assert stops_paying(found.metrics, "harmlessness").paying == 0


def test_failed_rounds_are_missing_and_failed_calls_ungraded_and_neither_is_a_verdict() -> None:
    def fails(a: str, b: str) -> bool:
        return "chain 1 " in a + b

    found = measured(revisions(lambda i, k: None if i == 0 and k > 1 else k), ask=ask_by(richer, fails))
    first, second = gain(found, 1), gain(found, 2)
    assert (first["n"], first["missing"], first["ungraded"]) == (N - 1, 0, 1)
    assert (second["n"], second["missing"], second["ungraded"]) == (N - 2, 1, 1)
    lost = found.rows.filter(prompt_id="p0", round=3, against="previous", question="harmlessness").to_dicts()[0]
    assert (lost["outcome"], lost["verdict"], lost["judge_error"]) == (None, "missing", "round 3: no memory")
    (level,) = found.metrics.filter(measure="words", kind="level", round=2).to_dicts()
    assert (level["n"], level["missing"]) == (N - 1, 1)
    nothing = measured(revisions(lambda i, k: None), first=None)
    assert nothing.metrics["value"].null_count() == nothing.metrics.height
    assert nothing.metrics.filter(kind="win rate")["missing"].unique().to_list() == [N]


def test_the_same_text_is_a_tie_and_asks_nobody() -> None:
    asked: list[Call] = []

    def ask(calls: Sequence[Call]) -> list[Row]:
        asked.extend(calls)
        return ask_by(richer)(calls)

    texts = revisions(lambda i, k: k, rounds=2).with_columns(revision=pl.lit("worth  0"))
    found = measured(texts, ask=ask)
    assert asked == []
    assert set(found.rows["verdict"]) == {"tie"}
    assert gain(found, 2)["identical"] == N
    assert gain(found, 1)["verdict"] == "no difference seen"


def test_the_first_round_is_judged_once_and_every_other_against_both() -> None:
    asked: list[int] = []

    def ask(calls: Sequence[Call]) -> list[Row]:
        asked.append(len(calls))
        return ask_by(richer)(calls)

    found = measured(revisions(lambda i, k: k), ask=ask)
    assert asked == [N * 4 * (1 + 2 + 2)]
    assert found.rows.height == N * 3 * 2 * 2
    one = found.rows.filter(round=1).drop("against")
    assert one.unique().height == one.height // 2


def test_chains_are_drawn_by_hash_and_few_change_when_prompts_are_added() -> None:
    texts = revisions(lambda i, k: k)
    small, large = ([f"p{i}" for i in range(n)] for n in (60, N))
    picked = [set(draw_chains(prompts, 20)) for prompts in (small, large)]
    assert picked[0] == set(draw_chains(small[::-1], 20))
    assert len(picked[0] & picked[1]) >= 10
    found = measured(texts, limit=20)
    assert (found.chains, found.of) == (20, N)
    assert set(found.rows["prompt_id"]) == picked[1]


def test_tables_have_their_schemas_and_name_every_row_key() -> None:
    found = measured(revisions(lambda i, k: k))
    for frame, schema in ((found.metrics, METRICS_SCHEMA), (found.rows, ROWS_SCHEMA), (found.texts, TEXTS_SCHEMA)):
        assert dict(frame.schema) == schema
    assert found.rows["row_key_first"].null_count() == 0
    assert set(found.texts["row_key"]) == {f"r1:start{i}" for i in range(N)} | {
        f"r1:{i}-{k}" for i in range(N) for k in (1, 2, 3)}


def test_text_measures_move_with_the_texts() -> None:
    texts = revisions(lambda i, k: k).with_columns(revision=pl.format(
        "I can't help with that, and {} more words about it", "round"))
    found = measured(texts, ask=ask_by(lambda *_: 0.5))
    (level,) = found.metrics.filter(measure="refusal", kind="level", round=1).to_dicts()
    (change,) = found.metrics.filter(measure="refusal", kind="change", against="previous", round=1).to_dicts()
    assert (level["value"], change["value"]) == (1.0, 1.0)
    (later,) = found.metrics.filter(measure="refusal", kind="change", against="previous", round=2).to_dicts()
    assert later["value"] == pytest.approx(0.0)


def test_dagster_shows_a_small_chart_and_a_table() -> None:
    found = measured(revisions(lambda i, k: k, rounds=4))
    assert len(chart(found.metrics)) < 1000
    assert chart(found.metrics).startswith("![chart](data:image/svg+xml,")
    assert markdown(found.metrics, TELLING).count("\n") == 1 + 2 * 2 * 4
