"""Scoring questions answered by sampling: what a reply names, what the shares are worth, and which keys change."""

from __future__ import annotations

import json
import math
import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from fake_server import MODEL, serving
from patience import QUIET

from cai_assets.constitution.model import Constitution, Principle
from cai_assets.engines.keys import row_payload
from cai_assets.engines.pool import EnginePool
from cai_assets.engines.protocol import Call, Message, Request, Sampled, Sampling
from cai_assets.engines.sampled import SampledAnswers, answer_in, asked_openly, read_of
from cai_assets.engines.scripted import Scripted
from cai_assets.evals.gate import measure, verdict
from cai_assets.settings import Gate, Labels, Settings
from cai_assets.steps.compare import VERDICT, comparison_call
from cai_assets.steps.complete import Completer
from cai_assets.steps.label import label_pairs
from cai_assets.steps.pair import SCHEMA
from cai_assets.store.layout import Layout
from cai_assets.store.row_store import RowStore

QUESTION: list[Message] = [{"role": "user", "content": "Is it safe?"}]
CONSTITUTION = Constitution(name="c", version="v1", principles=(Principle(id="p", preference="Prefer the safer."),))


def comparison(style: str = "chat", thought: str | None = None) -> Call:
    return comparison_call(QUESTION, "yes", "no", request="Which is safer?", style=style, thought=thought)  # type: ignore[arg-type]


def requests(n: int, call: Call | None = None) -> list[Request]:
    return [Request(row_key=f"k{i}", seed=i, call=call or comparison()) for i in range(n)]


def polled(reply: Callable[[Call, Request], str], samples: int = 16, **how: Any) -> SampledAnswers:
    return SampledAnswers(Scripted(reply=reply, **how), Sampled(samples=samples, max_tokens=16))


@pytest.mark.parametrize(("reply", "names"), [
    ("A", "A"), ("(A)", "A"), (" B)", "B"), ("**B**", "B"), ("The better answer is (B)", "B"),
    ("The better answer is **(B)**.", "B"), ("The better answer is A, because B lies.", "A"), ("Answer: A", "A"),
    ("B.\n\nBecause (A) is worse", "B"), ("I choose B", "B"), ("It is (A) because it is kind", "A"), ("A\n\nB", "A"),
    ("A better answer is hard to find", None), ("A or B?", None), ("The better answer is (A) or (B)", None),
    ("I'd say (A) is better than (B)", None), ("Both are bad", None), ("", None), ("a", None), ("C", None),
    ("I cannot compare them", None),
])
def test_a_reply_names_one_answer_or_none(reply: str, names: str | None) -> None:
    assert answer_in(reply, VERDICT, ("A", "B")) == names


@pytest.mark.parametrize(("reply", "names"), [
    ("yes", "Yes"), ("Yes, it does.", "Yes"), ("NO", "No"), ("Is it harmful? No", "No"),
    ("There is no such thing", None), ("Yes or no", None), ("not sure", None), ("I know", None),
])
def test_words_may_be_written_small(reply: str, names: str | None) -> None:
    assert answer_in(reply, "", ("Yes", "No")) == names


@pytest.mark.parametrize(("reply", "names"), [
    ("7", "7"), ("The grade is 8.", "8"), ("(9)", "9"), ("7/10", None), ("7.5", None), ("7-8", None), ("10", None),
])
def test_a_grade_stands_alone(reply: str, names: str | None) -> None:
    assert answer_in(reply, "", tuple("123456789")) == names


def test_the_share_of_the_replies_is_an_estimate_of_the_probability_as_good_as_a_coin() -> None:
    def sometimes(_: Call, request: Request) -> str:
        return "(A)" if random.Random(request.seed).random() < 0.7 else "The better answer is (B)"

    shares = [math.exp(r.logprobs[0]) for r in polled(sometimes, samples=16).run(requests(400))]
    assert len(shares) == 400
    mean, spread = sum(shares) / 400, math.sqrt(sum((s - 0.7) ** 2 for s in shares) / 400)
    assert mean == pytest.approx(0.7, abs=4 * 0.1146 / 20), "unbiased: within four standard errors"
    assert spread == pytest.approx(math.sqrt(0.7 * 0.3 / 16), rel=0.15), "samples are independent of each other"


def test_what_was_counted_is_kept_and_replies_that_name_nothing_count_for_none() -> None:
    kinds = ["A", "A", "B", "I cannot say"]
    (row,) = polled(lambda _, r: kinds[int(r.row_key.partition("#")[2]) % 4], samples=8).run(requests(1))
    assert json.loads(row.text) == {"A": 4, "B": 2, "unread": 2}
    assert (row.finish, read_of(row.text)) == ("sampled", (6, 8))
    assert [math.exp(x) for x in row.logprobs] == pytest.approx([0.5, 0.25])
    (certain,) = polled(lambda *_: "B").run(requests(1))
    assert certain.logprobs == (-math.inf, 0.0), "the model was never heard to say A"


def test_calls_whose_replies_name_nothing_or_fail_are_failed_rows_and_their_neighbors_are_not() -> None:
    def reply(call: Call, _: Request) -> str:
        return "I would rather not" if "odd" in call.messages[0]["content"] else "A"

    odd = comparison().model_copy(update={"messages": ({"role": "user", "content": "odd"},)})
    mixed = [*requests(1), Request(row_key="odd", seed=0, call=odd)]
    rows = {r.row_key: r for r in polled(reply, fail=lambda key: key == "k0#3").run([*mixed, *requests(3)[1:]])}
    assert rows.keys() == {"k0", "odd", "k1", "k2"}
    assert rows["k0"].error == "scripted failure"
    assert str(rows["odd"].error).startswith("none of 16 sampled replies names one of the answers A, B: the first is '")
    assert rows["k1"].error is rows["k2"].error is None


def test_generating_calls_go_through_and_what_is_asked_is_drawn_only_as_it_is_needed() -> None:
    drawn: list[str] = []

    def source() -> Any:
        for request in [Request(row_key="text", seed=7, call=Call(messages=tuple(QUESTION), sampling=Sampling())),
                        *requests(50)]:
            drawn.append(request.row_key)
            yield request

    results = polled(lambda _, r: f"A {r.seed}" if r.row_key == "text" else "A").run(source())
    first = next(results)
    assert (first.row_key, first.text, first.finish) == ("text", "A 7", "stop")
    assert drawn == ["text"]
    next(results)
    assert len(drawn) == 2, "a server is sent what it has room for, not everything"


def test_the_call_is_asked_without_opening_the_answer_for_the_model() -> None:
    sampled = Sampled(samples=4, max_tokens=9)
    call = asked_openly(comparison(), sampled)
    assert call.sampling == Sampling(temperature=1.0, max_tokens=9)
    assert [m["role"] for m in call.messages] == ["user"]
    assert call.messages[0]["content"].startswith(comparison().messages[0]["content"])
    assert call.messages[0]["content"].endswith(
        f"Reply with this line, completed by A or B, and nothing else:\n{VERDICT}")
    reasons = asked_openly(comparison(thought="It is.\nReally."), sampled).messages[0]["content"]
    assert reasons.index("Let us think step by step:\n    It is.\n    Really.") < reasons.index("Reply with this line")
    plain = asked_openly(comparison("plain"), sampled)
    assert plain.messages == comparison("plain").messages, "a base model goes on where the text ends"
    choice = asked_openly(Call(messages=tuple(QUESTION), answers=("A", "B", "C")), sampled)
    assert choice.messages[0]["content"] == "Is it safe?\n\nReply with A, B or C, and nothing else."


def test_the_count_enters_the_keys_of_scoring_calls_alone() -> None:
    exact, generate = Scripted().identity, Call(messages=tuple(QUESTION), sampling=Sampling())
    few, many = (polled(lambda *_: "A", samples=n).identity for n in (8, 16))

    def keys(call: Call) -> list[str]:
        return [row_payload("label", 1, call, model, 0) for model in (exact, few, many)]

    assert len(set(keys(comparison()))) == 3
    assert len(set(keys(generate))) == 1
    payload = json.loads(keys(comparison())[2])
    assert payload["call"]["sampled"] == {"max_tokens": 16, "samples": 16}
    assert json.dumps(payload, sort_keys=True, separators=(",", ":")) == keys(comparison())[2], "canonical"


def test_a_model_setting_with_samples_shares_its_engine_with_the_same_model_without(tmp_path: Path) -> None:
    settings = Settings(models={"generator": {"source": "m", "backend": "scripted"},  # type: ignore[arg-type]
                                "labeller": {"source": "m", "backend": "scripted", "answer_samples": 4}})
    pool = EnginePool(settings, Layout(tmp_path))
    labeller = pool.open(settings.models.role("labeller"))
    assert isinstance(labeller, SampledAnswers)
    assert labeller.engine is pool.open(settings.models.role("generator"))
    assert labeller.identity.sampled == Sampled(samples=4, max_tokens=16)


def chats_only(body: dict[str, Any], _: int) -> str:
    """As servers that know neither log-probabilities nor how to continue a turn: they answer what they are asked."""
    if "messages" not in body:
        return "says:404 this server only chats"
    if "logprobs" in body or "continue_final_message" in body:
        return "says:400 " + json.dumps({"error": {"message": "Unrecognized request argument supplied: logprobs"}})
    asked = body["messages"][-1]["content"]
    shown = asked.index("safe\n") < asked.index("bad\n")
    likes = random.Random(body["seed"]).random() < 0.9
    text = "I am a language model." if body["seed"] % 7 == 0 else f"{VERDICT}{'A' if shown == likes else 'B'})"
    choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}
    usage = {"prompt_tokens": 20, "completion_tokens": 6}
    return "says:200 " + json.dumps({"model": MODEL, "choices": [choice], "usage": usage})


def pairs(n: int) -> pl.DataFrame:
    rows = [{"pair_id": f"pair{i}", "prompt_id": f"q{i}", "kind": "gate", "category": "gate", "messages": [
        {"role": "user", "content": f"Question {i}?"}], "response_a": "safe" if i % 2 else "bad",
        "response_b": "bad" if i % 2 else "safe", "identical": False} for i in range(n)]
    return pl.DataFrame(rows, schema=SCHEMA)


def test_a_server_that_only_chats_labels_as_it_thinks_and_the_gate_measures_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with serving(chats_only) as server:
        settings = Settings(engine={"request_timeout": QUIET, "concurrency": 8}, models={"labeller": {  # type: ignore[arg-type]
            "source": MODEL, "base_urls": [server.url], "answer_samples": 16}})

        def label() -> tuple[pl.DataFrame, Completer]:
            pool = EnginePool(settings, Layout(tmp_path))
            complete = Completer(pool.open(settings.models.role("labeller")), RowStore(Layout(tmp_path)), seed=0)
            return label_pairs(pairs(20), CONSTITUTION, complete=complete, settings=Labels()), complete

        labeled, complete = label()
        assert server.calls == 20 * 2 * 16
        again, second = label()
        assert server.calls == 20 * 2 * 16, "kept: not asked again"
    assert complete.usage["label"].generated == second.usage["label"].reused == 40
    assert complete.usage["label"].completion_tokens == 20 * 2 * 16 * 6
    assert labeled.equals(again)
    assert Counter(labeled["label"]) == {"A": 10, "B": 10}
    assert set(labeled["chosen"]) == {"safe"}
    assert set(labeled["read_from"]) == {"samples"}
    assert set(labeled["replies"]) == {32}
    assert 0.7 < labeled["replies_read"].sum() / labeled["replies"].sum() < 1
    assert 0.8 < float(labeled["p_chosen"].mean()) < 0.97  # type: ignore[arg-type]
    result = measure(labeled.with_columns(human=pl.col("label")))
    passed, why = verdict(result, Gate())
    assert passed
    assert "its answers are sampled, and of the replies a share of 0." in why


def test_labels_of_exact_probabilities_have_no_such_columns(tmp_path: Path) -> None:
    complete = Completer(Scripted(), RowStore(Layout(tmp_path)), seed=0)
    labeled = label_pairs(pairs(4), CONSTITUTION, complete=complete, settings=Labels())
    assert not {"read_from", "replies", "replies_read"} & set(labeled.columns)
    assert measure(labeled.with_columns(human=pl.lit("A"))).replies_read is None
