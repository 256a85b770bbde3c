"""Evaluation through a real engine, row store and completer: verdicts are kept, failures are asked again."""

import math

import pytest
from judges import parts
from test_evaluate import frame, metric

from cai_assets.engines.scripted import Scripted
from cai_assets.evals.evaluate import evaluate
from cai_assets.steps.complete import Completer, Step
from cai_assets.store.layout import Layout
from cai_assets.store.row_store import RowStore

JUDGE = Step("judge")


def score(call, request):
    """Prefers the answer with more words; between equals, the first place."""
    _, a, b = parts(call)
    margin = len(a.split()) - len(b.split())
    p = 0.9 if margin > 0 else 0.2 if margin < 0 else 0.8
    return math.log(p), math.log(1 - p)


@pytest.fixture
def responses():
    policy = ["now three words"] * 3 + ["one"] * 2 + ["same length"]
    return {"base": frame(["two words"] * 6), "rl_policy": frame(policy)}


def completer(tmp_path, engine):
    return Completer(engine, RowStore(Layout(tmp_path)), seed=0)


@pytest.mark.parametrize("style", ["plain", "chat"])
def test_the_planted_preference_is_measured_and_a_second_run_asks_nothing(tmp_path, responses, style):
    engine = Scripted(score=score)
    complete = completer(tmp_path, engine)
    metrics, rows = evaluate(responses, ask=lambda calls: complete(JUDGE, calls), style=style)
    assert rows.filter(policy="rl_policy")["verdict"].to_list() == ["win"] * 3 + ["loss"] * 2 + ["tie"]
    found = metric(metrics, "rl_policy", "harmlessness_win_rate", "red-team")
    assert found["value"] == pytest.approx(3.5 / 6)
    served = engine.calls
    again, _ = evaluate(responses, ask=lambda calls: complete(JUDGE, calls), style=style)
    assert engine.calls == served == 12
    assert again.equals(metrics)


def test_rows_that_failed_once_are_ungraded_and_graded_by_the_next_run(tmp_path, responses):
    broken = completer(tmp_path, Scripted(score=score, fail=lambda key: True))
    metrics, rows = evaluate(responses, ask=lambda calls: broken(JUDGE, calls), style="plain")
    found = metric(metrics, "rl_policy", "harmlessness_win_rate", "red-team")
    assert (found["value"], found["n"], found["ungraded"]) == (None, 0, 6)
    assert rows.filter(policy="rl_policy")["judge_error"].str.contains("scripted failure").all()
    whole = completer(tmp_path, Scripted(score=score))
    metrics, _ = evaluate(responses, ask=lambda calls: whole(JUDGE, calls), style="plain")
    assert metric(metrics, "rl_policy", "harmlessness_win_rate", "red-team")["n"] == 6
