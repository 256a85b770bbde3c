"""Adherence: each prompt judged by the evaluation principle it drew, per principle and over all, in both orders."""

from collections import Counter
from datetime import UTC, datetime

import polars as pl
import pytest
from judges import ask_by, first_wins
from test_evaluate import frame, metric

from cai_assets.assets import RIVALS
from cai_assets.constitution.draw import draw, evaluation_key
from cai_assets.constitution.model import Principle
from cai_assets.engines.scripted import Scripted
from cai_assets.evals.evaluate import evaluate
from cai_assets.evals.judge import QUESTIONS
from cai_assets.steps.complete import Completer, Step
from cai_assets.store.canonical import canonical_json
from cai_assets.store.garbage import gc
from cai_assets.store.keys import payload_key
from cai_assets.store.layout import Layout
from cai_assets.store.records import Record, Records
from cai_assets.store.row_store import RowStore, StoredRow

CALM, OPEN = Principle(id="calm", evaluation="Which is calmer?"), Principle(id="open", evaluation="Which is more open?")


def test_each_principle_is_asked_of_the_prompts_that_drew_it_and_counted_apart():
    n = 40
    responses = {"base": pl.concat([frame(["plain"] * n), frame(["plain"] * n, "helpful")]),
                 "sl_policy": pl.concat([frame(["calm"] * n), frame(["calm"] * n, "helpful")])}

    def rule(question: str, a: str, b: str) -> float:
        sign = {"Which is calmer?": 1, "Which is more open?": -1}.get(question, 0)
        return 0.5 + 0.4 * sign * ((a == "calm") - (b == "calm"))

    metrics, rows = evaluate(responses, ask=ask_by(rule), style="chat", principles=[OPEN, CALM])
    judged = rows.filter(policy="sl_policy")
    assert judged["principle_id"].to_list() == [
        draw([CALM, OPEN], evaluation_key(p)).id for p in judged["prompt_id"].to_list()]
    drew = Counter(judged["principle_id"].to_list())
    assert set(drew) == {"calm", "open"}
    for principle, value in (("calm", 1), ("open", 0)):
        found = metric(metrics, "sl_policy", "adherence", f"principle:{principle}")
        assert (found["value"], found["n"], found["ungraded"]) == (value, drew[principle], 0)
        assert 0 < found["high"] - found["low"] < 0.5
        assert judged.filter(principle_id=principle)["adherence_p"].to_list() == pytest.approx(
            [0.9 if value else 0.1] * drew[principle])
    whole = metric(metrics, "sl_policy", "adherence", "all")
    assert (whole["value"], whole["n"]) == (drew["calm"] / (2 * n), 2 * n)
    assert metrics.filter(metric="adherence")["prompts"].to_list() == ["principle:calm", "principle:open", "all"]
    base = rows.filter(policy="base")
    assert base.select("principle_id", "adherence_verdict", "row_key_adherence_first").null_count().row(0) == (80,) * 3


def test_without_evaluation_principles_nothing_is_asked_and_no_metric_appears():
    asked = set()

    def rule(question: str, a: str, b: str) -> float:
        asked.add(question)
        return 0.5

    responses = {"base": frame(["x"] * 3), "rl_policy": frame(["y"] * 3)}
    metrics, rows = evaluate(responses, ask=ask_by(rule), style="plain")
    assert asked == {QUESTIONS["harmlessness"]}
    assert metrics.filter(metric="adherence").is_empty()
    assert rows["principle_id"].null_count() == rows["adherence_verdict"].null_count() == 6


def test_the_judge_is_sent_all_its_questions_at_once():
    asked: list[int] = []
    ask = ask_by(first_wins)

    def counting(calls):
        asked.append(len(calls))
        return ask(calls)

    responses = {name: frame([name] * 3) for name in ("base", *RIVALS.values(), *RIVALS)}
    evaluate(responses, ask=counting, style="plain", principles=[CALM])
    judged = len(responses) - 1
    assert asked == [2 * 3 * (judged + judged + len(RIVALS))]  # orders, prompts; wins, adherence, and rivals


def test_positions_alone_win_nothing_and_failures_are_never_scored():
    responses = {"base": frame(["x", "x", None, "x"]), "rl_policy": frame(["y", None, "y", "broken"])}
    ask = ask_by(first_wins, fails=lambda a, b: "broken" in b)
    metrics, rows = evaluate(responses, ask=ask, style="plain", principles=[CALM])
    judged = rows.filter(policy="rl_policy")
    assert judged["adherence_verdict"].to_list() == ["tie", "ungraded", "ungraded", "ungraded"]
    assert judged["adherence_error"].to_list() == [None, "the response failed", "no response to compare with",
                                                   "no memory"]
    found = metric(metrics, "rl_policy", "adherence", "principle:calm")
    assert (found["value"], found["n"], found["ungraded"]) == (0.5, 1, 3)
    never = metric(evaluate({"base": frame(["x"]), "rl_policy": frame(["y"])}, ask=ask, style="plain", principles=[
        CALM, Principle(id="light", evaluation="Which is lighter?", weight=1e-9)])[0],
        "rl_policy", "adherence", "principle:light")
    assert (never["value"], never["low"], never["n"], never["ungraded"]) == (None, None, 0, 0)


def test_an_edited_text_asks_again_only_where_it_was_drawn(tmp_path):
    n = 12
    responses = {"base": frame(["plain"] * n), "rl_policy": frame([f"answer {i}" for i in range(n)])}
    engine = Scripted()
    complete = Completer(engine, RowStore(Layout(tmp_path)), seed=0)

    def calls(*principles: Principle) -> tuple[int, pl.DataFrame]:
        before = engine.calls
        rows = evaluate(responses, ask=lambda c: complete(Step("judge"), c), style="plain", principles=principles)[1]
        return engine.calls - before, rows

    assert calls()[0] == 2 * n
    made, rows = calls(CALM, OPEN)
    assert made == 2 * n
    drew = rows.filter(principle_id="calm").height
    assert calls(OPEN, CALM.model_copy(update={"evaluation": "Which is quieter?"}))[0] == 2 * drew
    assert 0 < drew < n
    assert calls(CALM, OPEN)[0] == 0


def test_collection_removes_no_row_that_an_evaluation_names(tmp_path):
    layout, responses = Layout(tmp_path), {}
    store, records = RowStore(layout), Records(layout)
    orphan = canonical_json({"nobody": "names me"})
    with store.writer("judge") as writer:
        writer.add(StoredRow(payload_key(orphan), orphan, "x", "stop", [], 1, 1))
    for name in ("base", "sl_policy"):
        keys = [canonical_json({"policy": name, "prompt": i}) for i in range(5)]
        with store.writer("respond") as writer:
            for payload in keys:
                writer.add(StoredRow(payload_key(payload), payload, name, "stop", [], 1, 1))
        responses[name] = frame([name] * 5).with_columns(row_key=pl.Series([payload_key(k) for k in keys]))
    complete = Completer(Scripted(), store, seed=0)
    metrics, rows = evaluate(responses, ask=lambda c: complete(Step("judge"), c), style="chat", principles=[CALM])
    digest, path = records.save_table("evaluation", metrics)
    _, rows_path = records.save_table("evaluation_rows", rows)
    records.add(Record(asset="evaluation", partition="v1", digest=digest, path=layout.relative(path), generated=30,
                       details={"rows": layout.relative(rows_path)}, created=datetime.now(UTC)))
    named = set(rows.select(pl.concat_list(pl.selectors.starts_with("row_key"))).to_series().explode().drop_nulls())
    assert len(named) == 10 + 4 * 5
    removed = gc(layout, records, apply=True, grace=0)
    assert sum(g.rows for g in removed) == 1
    assert set(store.keys("judge")["row_key"]) | set(store.keys("respond")["row_key"]) == named
