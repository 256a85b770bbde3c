"""The alternatives of the loop: early stop, direct revision, shuffled critiques, and conversations of several turns."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest
from oracle import Oracle

from cai_assets.constitution.load import load_file
from cai_assets.constitution.model import Constitution, FewShots, Principle, RevisionShot
from cai_assets.engines.protocol import Call, Message, Request
from cai_assets.engines.scripted import Scripted
from cai_assets.engines.templating import Templater
from cai_assets.settings import Critique, Generation
from cai_assets.steps.complete import Completer
from cai_assets.steps.critique import ALONE, NOT_ASKED, Chain, critique_and_revise, partners
from cai_assets.steps.frames import critique_call, direct_revision_call, revision_call
from cai_assets.steps.verdict import LEAD
from cai_assets.store.layout import Layout
from cai_assets.store.row_store import RowStore

SHOT = RevisionShot(prompt="P1", response="R1", critique_request="CR1", critique="C1", revision_request="RR1",
                    revision="V1")
CONSTITUTION = Constitution(
    name="c", version="v1", few_shots=FewShots(revision=(SHOT,)),
    principles=tuple(Principle(id=f"p{i}", critique=f"Critique by {i}.", revision=f"Revise by {i}.") for i in range(4)))
TURNS: list[Message] = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello"},
                        {"role": "assistant", "content": "Hi"}, {"role": "user", "content": "A joke?"}]
P = CONSTITUTION.principles[0]


def responses(n: int) -> pl.DataFrame:
    return pl.DataFrame([{"prompt_id": f"q{i:03d}", "messages": [{"role": "user", "content": f"Question {i:03d}?"}],
                          "response": f"Answer {i:03d}.", "error": None, "row_id": f"i1:{i}"} for i in range(n)],
                        schema_overrides={"error": pl.String})


def run(root: Path, engine: Any, n: int = 12, frame: pl.DataFrame | None = None,
        **settings: Any) -> tuple[pl.DataFrame, pl.DataFrame]:
    return critique_and_revise(responses(n) if frame is None else frame, CONSTITUTION,
                               settings=Critique(**{"rounds": 3, **settings}), generation=Generation(),
                               complete=Completer(engine, RowStore(Layout(root)), seed=0))


def said(call: Call) -> str:
    return "\n".join(m["content"] for m in call.messages)


class Reader:
    """A critic that quotes the question it saw, and finds nothing left once a revision of it was made ``after``
    times. The text of a revision says whose critique it answers."""

    def __init__(self, after: int = 99) -> None:
        self.after, self.calls = after, list[str]()
        self.engine = Scripted(reply=self.reply, score=self.score)

    def reply(self, call: Call, _: Request) -> str:
        text = said(call)
        number = text.rpartition("Question: Question ")[2][:3]
        if text.endswith("Better answer:"):
            self.calls.append("revision")
            answered = text.rpartition("Critique: about ")[2][:3] if "Critique: about" in text else "none"
            return f"Revision of {number} in answer to {answered}, " + "again " * text.count("in answer to")
        self.calls.append("critique")
        return f"about {number}"

    def score(self, call: Call, _: Request) -> tuple[float, ...]:
        self.calls.append("verdict")
        newest = said(call).rpartition("Assistant:")[2]
        made = 0 if "Answer 0" in newest else 1 + newest.count("again")
        return (-5.0, -0.1) if made >= self.after else (-0.1, -5.0)


def test_a_chain_of_which_nothing_is_left_to_criticize_stops_and_asks_no_more(tmp_path: Path) -> None:
    reader = Reader(after=1)
    critiques, revisions = run(tmp_path, reader.engine, n=4, style="plain", stop_above=0.9)
    assert critiques.height == revisions.height == 12
    assert [reader.calls.count(k) for k in ("verdict", "critique", "revision")] == [8, 4, 4]
    for table, text in ((critiques, "critique"), (revisions, "revision")):
        chain = table.filter(pl.col("prompt_id") == "q002")
        drawn = chain["principle_id"][1]
        reason = f"round 2: nothing left to criticise (p=0.99) by {drawn}"
        assert chain["stopped"].to_list() == [None, reason, reason]
        assert chain["p_done"].to_list() == [pytest.approx(0.0074, abs=1e-3), pytest.approx(0.9926, abs=1e-3), None]
        assert chain[text].null_count() == 2
        assert chain["error"].null_count() == 3
        assert chain["row_key"].to_list()[1:] == ["", ""]
    assert critiques["row_key_verdict"].null_count() == 4


def test_a_verdict_that_cannot_be_read_goes_on_and_a_failed_one_ends_the_chain(tmp_path: Path) -> None:
    unreadable = Scripted(score=lambda *_: (float("-inf"), float("-inf")))
    critiques, revisions = run(tmp_path / "a", unreadable, stop_above=0.5)
    assert critiques["p_done"].null_count() == critiques.height
    assert revisions["revision"].null_count() == 0
    critiques, revisions = run(tmp_path / "b", Oracle(fails=lambda r: bool(r.call.answers)), stop_above=0.5)
    assert set(revisions["error"]) == {"round 1: the verdict failed: failed on purpose"}
    assert critiques["stopped"].null_count() == critiques.height


def test_without_stop_above_the_calls_are_those_of_the_loop_alone(tmp_path: Path) -> None:
    never = Scripted(score=lambda *_: (0.0, -9.0))
    run(tmp_path / "a", plain := Oracle())
    run(tmp_path / "b", never, stop_above=0.99)
    assert not [r for r in plain.calls if r.call.answers]
    with_verdicts = Oracle()
    run(tmp_path / "c", with_verdicts, stop_above=0.999)
    first = {r.row_key for r in with_verdicts.calls if not r.call.answers}
    assert first <= {r.row_key for r in plain.calls}


@pytest.mark.parametrize("style", ["plain", "chat"])
def test_direct_revisions_ask_for_no_critique(tmp_path: Path, style: str) -> None:
    critiques, revisions = run(tmp_path, engine := Oracle(), n=5, mode="direct", style=style)
    assert critiques.height == revisions.height == len(engine.calls) == 15
    assert critiques["critique"].null_count() == critiques["error"].null_count() == 15
    assert set(critiques["stopped"]) == {NOT_ASKED}
    assert revisions["revision"].null_count() == revisions["critique_of"].null_count() - 15 == 0
    assert revisions["stopped"].null_count() == 15
    assert not [r for r in engine.calls if "Critique" in said(r.call).replace("Critique by", "")]
    chain = revisions.filter(pl.col("prompt_id") == "q001")
    assert chain["before"].to_list() == ["Answer 001.", *chain["revision"].to_list()[:-1]]


def test_a_direct_chain_may_stop_early_too(tmp_path: Path) -> None:
    reader = Reader(after=1)
    critiques, revisions = run(tmp_path, reader.engine, n=3, mode="direct", style="plain", stop_above=0.9)
    assert [reader.calls.count(k) for k in ("verdict", "critique", "revision")] == [6, 0, 3]
    assert "nothing left" in critiques.filter(pl.col("round") == 3)["stopped"][0]
    assert revisions["revision"].count() == 3


def test_shuffled_revisions_each_see_the_critique_of_another_row(tmp_path: Path) -> None:
    n = 12
    _, own = run(tmp_path / "own", Reader().engine, n, style="plain", few_shots=False)
    critiques, other = run(tmp_path / "other", Reader().engine, n, style="plain", few_shots=False, shuffle=True)
    for row in own.filter(pl.col("round") == 1).iter_rows(named=True):
        assert row["critique_of"] == row["prompt_id"]
        assert f"Revision of {row['prompt_id'][1:]} in answer to {row['prompt_id'][1:]}" in row["revision"]
    for number in (1, 2, 3):
        rows = other.filter(pl.col("round") == number)
        assert sorted(rows["critique_of"]) == sorted(rows["prompt_id"])  # every critique is used once
        assert not rows.filter(pl.col("critique_of") == pl.col("prompt_id")).height
        for row in rows.iter_rows(named=True):
            assert f"Revision of {row['prompt_id'][1:]} in answer to {row['critique_of'][1:]}" in row["revision"]
        answered = rows.join(critiques.filter(round=number), left_on="critique_of", right_on="prompt_id",
                             maintain_order="left")
        assert rows["critique_id"].to_list() == answered["row_id_right"].to_list()
    assert critiques.filter(pl.col("round") == 1)["critique"].to_list() == [f"about {i:03d}" for i in range(n)]
    assert own["critique_id"].null_count() == own.height  # the parent is the critique that was answered
    assert other["parent_id"].to_list() == critiques["row_id"].to_list()
    assert set(other["row_id"]).isdisjoint(own["row_id"])


def test_who_answers_whom_depends_on_the_prompt_ids_alone() -> None:
    def chains(ids: list[str]) -> list[Chain]:
        return [Chain(i, [], "", "") for i in ids]

    ids = [f"q{i}" for i in range(9)]
    ring = partners(chains(ids))
    assert ring == partners(chains(ids[::-1]))
    assert all(a != b for a, b in ring.items())
    assert set(ring.values()) == set(ids)
    less = partners(chains(ids[1:]))
    assert sum(less[i] != ring[i] for i in ids[1:]) == 1  # only who answered q0
    assert partners(chains(["q1"])) == {}


def test_shuffling_needs_two_rows(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at least 2 red-team prompts"):
        run(tmp_path, Oracle(), n=1, shuffle=True)


def test_a_shuffled_row_whose_partner_has_no_critique_says_so(tmp_path: Path) -> None:
    def fails(r: Request) -> bool:
        return "Question 003?" in said(r.call) and said(r.call).endswith("Critique:")

    critiques, revisions = run(tmp_path, Oracle(fails=fails), rounds=1, style="plain", shuffle=True)
    bad = revisions.filter(pl.col("error").is_not_null())
    (partner,) = [i for i in bad["prompt_id"] if i != "q003"]
    why = bad.filter(pl.col("prompt_id") == partner)["error"][0]
    assert why == "round 1: the critique of q003, which it was to answer: failed on purpose"
    assert critiques.filter(pl.col("prompt_id") == partner)["critique"].null_count() == 0
    assert revisions.height == 12


def test_the_last_chain_of_a_shuffled_loop_stops_for_want_of_a_critique(tmp_path: Path) -> None:
    def score(call: Call, _: Request) -> tuple[float, ...]:
        return (0.0, -9.0) if "Question 001?" in said(call) else (-9.0, 0.0)

    _, revisions = run(tmp_path, Scripted(score=score), n=3, shuffle=True, stop_above=0.5)
    last = revisions.filter(pl.col("prompt_id") == "q001")
    assert set(last["stopped"]) == {f"round 1: {ALONE}"}
    assert last["error"].null_count() == 3


# The prompts, both styles.


def test_the_plain_frame_is_pinned() -> None:
    call = revision_call(TURNS, "Knock.", "Too short.", P, shots=(SHOT,), style="plain", generation=Generation())
    assert said(call) == (
        "Question: P1\nFirst answer: R1\nCritique request: CR1\nCritique: C1\nRevision request: RR1\n"
        "Better answer: V1\n=====\nQuestion: System: Be brief.\n\nHuman: Hello\n\nAssistant: Hi\n\nHuman: A joke?\n"
        "First answer: Knock.\n"
        "Critique request: Critique by 0.\nCritique: Too short.\nRevision request: Revise by 0.\nBetter answer:")
    direct = direct_revision_call(TURNS[1:2], "Knock.", P, shots=(SHOT,), style="plain", generation=Generation())
    assert said(direct) == ("Question: P1\nFirst answer: R1\nRevision request: RR1\nBetter answer: V1\n=====\n"
                            "Question: Hello\nFirst answer: Knock.\nRevision request: Revise by 0.\nBetter answer:")


@pytest.mark.parametrize("shots", [(), (SHOT,)])
def test_in_a_chat_the_system_turn_comes_first_and_turns_alternate(shots: tuple[RevisionShot, ...]) -> None:
    g = Generation()
    calls = [critique_call(TURNS, "Knock.", P, shots=shots, style="chat", generation=g),
             revision_call(TURNS, "Knock.", "Short.", P, shots=shots, style="chat", generation=g),
             direct_revision_call(TURNS, "Knock.", P, shots=shots, style="chat", generation=g)]
    for call in calls:
        roles = [m["role"] for m in call.messages]
        assert roles[0] == "system"
        assert roles[1:] == ["user", "assistant"] * (len(roles) // 2 - 1) + ["user"]
        own = [m["content"] for m in call.messages if m["content"] in {"Hello", "Hi", "A joke?", "Knock."}]
        assert own == ["Hello", "Hi", "A joke?", "Knock."]
        assert ("V1" in said(call)) == bool(shots)
    assert ("C1" in said(calls[2])) is False


def test_a_template_without_room_for_a_late_system_turn_takes_the_call(tmp_path: Path) -> None:
    strict = ("{% for m in messages %}{% if m.role == 'system' and not loop.first %}"
              "{{ raise_exception('system must be first') }}{% endif %}{{ m.role }}: {{ m.content }}\n{% endfor %}")
    templater = _templater(tmp_path, strict)
    call = critique_call(TURNS, "Knock.", P, shots=(SHOT,), style="chat", generation=Generation())
    assert templater.encode(call)
    late = Call(messages=(*call.messages[1:], call.messages[0]), sampling=call.sampling)
    with pytest.raises(ValueError, match="system must be first"):
        templater.encode(late)


def _templater(root: Path, template: str) -> Templater:
    from tiny_models import tiny_model

    from cai_assets.engines.templating import load_tokenizer

    tokenizer = load_tokenizer(tiny_model(root / "tiny"))
    tokenizer.chat_template = template
    return Templater(tokenizer)


@pytest.mark.parametrize("style", ["plain", "chat"])
def test_conversations_of_several_turns_run_with_few_shots(tmp_path: Path, style: str) -> None:
    shipped = load_file(Path(__file__).parents[2] / "constitutions" / "harmlessness.yaml")
    assert shipped.few_shots.revision
    frame = responses(3).with_columns(messages=pl.Series([TURNS] * 3))
    engine = Oracle()
    critiques, revisions = critique_and_revise(
        frame, shipped, settings=Critique(rounds=2, style=style, stop_above=0.9999), generation=Generation(),
        complete=Completer(engine, RowStore(Layout(tmp_path)), seed=0))
    assert revisions["revision"].null_count() == critiques["critique"].null_count() == 0
    shot = shipped.few_shots.revision[0]
    for request in engine.calls:
        text = said(request.call)
        assert text.index(shot.prompt.splitlines()[0]) < text.index("A joke?")
        assert all(turn["content"] in text for turn in TURNS)
        assert request.call.answers == (("Yes", "No") if LEAD in text else ())


def test_a_text_that_comes_out_unchanged_stops_the_change_there(tmp_path: Path) -> None:
    def made(request: str, critique: str, revision: str) -> tuple[dict[str, int], int]:
        """Calls generated by step, with the first principle's critique request, and a critic that always says that; and
        the steps that drew the principle."""
        first = P.model_copy(update={"critique": request})
        constitution = CONSTITUTION.model_copy(update={"principles": (first, *CONSTITUTION.principles[1:])})
        engine = Scripted(reply=lambda call, _: revision if "Revise by" in call.messages[-1]["content"] else critique)
        complete = Completer(engine, RowStore(Layout(tmp_path)), seed=0)
        critiques, _ = critique_and_revise(responses(12), constitution, settings=Critique(rounds=3),
                                           generation=Generation(), complete=complete)
        return ({step: use.generated for step, use in complete.usage.items()},
                critiques.filter(principle_id=P.id).unique("row_key").height)

    made(P.critique or "", "Too long.", "Better.")
    generated, drew = made("In other words.", "Too long.", "Better.")
    assert drew > 0
    # The request stands in the revision's prompt (Bai et al. 2022, section 3.1), so the step itself is asked anew; the
    # steps after it are not.
    assert generated == {"critique": drew, "revision": drew}
    generated, _ = made("In words that find something else.", "Too short.", "Longer.")
    assert generated["critique"] > drew
