"""Runs the tests of a constitution: does the named principle act as its author intended?

A case's prompt gets a first answer, given or the generator's own, and the principle alone criticizes and revises it,
with the constitution's examples and the settings of the graph (``steps/critique.py``). The revision is held to the
case's conditions, and so is the policy's own answer where the version has a policy. Two answers, a good and a bad one,
test the principle as a question: the labeler is asked its 'preference' request, else the judge its 'evaluation' one.
Guarantees: what failed or could not be read is 'ungraded', never a verdict; every call is a row with a key.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, Literal, NamedTuple

import polars as pl

from cai_assets.constitution.cases import Case, Condition
from cai_assets.constitution.model import Constitution, Principle
from cai_assets.engines.protocol import Call, Message, Sampling
from cai_assets.evals.conditions import holds
from cai_assets.evals.judge import STEP, Ask, Comparison, judge
from cai_assets.evals.yes_no import Asked, YesNo, ask_yes_no
from cai_assets.settings import Settings
from cai_assets.steps.complete import Completer, Row
from cai_assets.steps.critique import critique_and_revise
from cai_assets.steps.label import label_pairs
from cai_assets.steps.pair import SCHEMA as PAIRS
from cai_assets.steps.respond import respond
from cai_assets.store.keys import row_id

Name = Literal["revision", "policy", "label", "judge"]
ROWS: dict[str, Any] = {
    "case": pl.String, "principle": pl.String, "subject": pl.String, "rule": pl.String, "condition": pl.String,
    "outcome": pl.String, "why": pl.String, "p": pl.Float64, "before": pl.String, "response": pl.String,
    "changed": pl.Boolean, "row_key": pl.String, "row_keys": pl.List(pl.String),
}
PROMPTS: dict[str, Any] = {"prompt_id": pl.String,
                           "messages": pl.List(pl.Struct({"role": pl.String, "content": pl.String}))}
NO_POLICY = "its principle has no critique, and no policy of this version is trained yet"
NO_QUESTION = "its principle has no preference and no evaluation request, so nobody can prefer by it"
PREFER = "prefer"
Fields = dict[str, Any]


class Roles(NamedTuple):
    """The models to ask. ``policy``: None while the version has none."""

    responder: Completer
    critic: Completer
    labeller: Completer
    judge: Completer
    policy: Completer | None


class Subject(NamedTuple):
    """An answer that is held to the conditions of a case. ``before``: what was revised; ``keys``: of every call."""

    case: Case
    name: Name
    text: str | None
    error: str | None
    row_key: str = ""
    keys: tuple[str, ...] = ()
    before: str | None = None

    def row(self, condition: Condition, outcome: str, why: str, p: float | None = None,
            keys: Sequence[str] = ()) -> Fields:
        changed = None if self.before is None or self.text is None else self.text != self.before
        return {"case": self.case.id, "principle": self.case.principle, "subject": self.name, "rule": condition.kind,
                "condition": str(condition), "outcome": outcome, "why": why, "p": p, "before": self.before,
                "response": self.text, "changed": changed, "row_key": self.row_key, "row_keys": [*self.keys, *keys]}


class Tested(NamedTuple):
    """``rows``: as ROWS, one per case, subject and condition, in file order.

    ``critiques`` and ``revisions``: the result of ``critique_and_revise``, with the case's id as the prompt's.
    """

    rows: pl.DataFrame
    critiques: pl.DataFrame
    revisions: pl.DataFrame


def run_cases(
    settings: Settings, constitution: Constitution, cases: Sequence[Case], *, roles: Roles,
    only: Collection[str] | None = None, graded: bool = True,
) -> Tested:
    """Run the cases, or those with the ids of ``only``. Each case's principle must be in the constitution.

    ``graded=False``: conditions that need no model are left ungraded, for a plan, which asks for the calls alone.
    """
    chosen = [c for c in cases if only is None or c.id in only]
    answered = _answered(settings, constitution, chosen, roles.policy)  # one model after the other
    revised, critiques, revisions = _revised(settings, constitution, chosen, roles)
    labeled = _labels(settings, constitution, chosen, roles.labeller)
    prompts = [c.conversation[-1].content for c in cases] if graded else None
    rows = _held(settings, [*revised, *answered], prompts, roles.judge)
    rows += [*labeled, *_judgments(settings, constitution, chosen, roles.judge)]
    order = {c.id: i for i, c in enumerate(cases)}
    return Tested(pl.DataFrame(sorted(rows, key=lambda r: order[r["case"]]), schema=ROWS), critiques, revisions)


def _revised(
    settings: Settings, constitution: Constitution, cases: Sequence[Case], roles: Roles
) -> tuple[list[Subject], pl.DataFrame, pl.DataFrame]:
    """The revision of each case whose principle can criticize, after one round by that principle alone."""
    acting = {c.id: (c, constitution.principle(c.principle)) for c in cases if _revises(c, constitution)}
    first = _first_answers(settings, [c for c, _ in acting.values()], roles.responder)
    alone = settings.critique.model_copy(update={"rounds": 1, "shuffle": False})
    critiques, revisions = critique_and_revise(
        first, constitution, complete=roles.critic, settings=alone, generation=settings.generation,
        assigned={i: principle for i, (_, principle) in acting.items()})
    joined = revisions.join(first.select("prompt_id", pl.col("response").alias("first"),
                                         pl.col("row_key").alias("first_key")), on="prompt_id")
    joined = joined.join(critiques.select("prompt_id", pl.col("row_key").alias("critique_key"), "row_key_verdict"),
                         on="prompt_id")
    subjects = {r["prompt_id"]: _revision(acting[r["prompt_id"]][0], r) for r in joined.iter_rows(named=True)}
    return [subjects[i] for i in acting], critiques, revisions


def _revises(case: Case, constitution: Constitution) -> bool:
    return bool(case.conditions) and constitution.principle(case.principle).critique is not None


def _revision(case: Case, r: Fields) -> Subject:
    # A chain with nothing left to criticize ends with the text it has.
    text = r["first"] if r["stopped"] and r["revision"] is None else r["revision"]
    keys = (r["first_key"], r["row_key_verdict"], r["critique_key"], r["row_key"])
    return Subject(case, "revision", text, None if text else r["error"], r["row_key"],
                   tuple(k for k in keys if k), r["first"])


def _first_answers(settings: Settings, cases: Sequence[Case], responder: Completer) -> pl.DataFrame:
    """In the form that ``respond`` returns; a given answer has no call."""
    g = settings.generation
    sampling = Sampling(temperature=g.temperature, top_p=g.top_p, max_tokens=g.max_tokens)
    answers = respond(_prompts([c for c in cases if c.response is None]), complete=responder, sampling=sampling,
                      what="first answers")
    given = [{"prompt_id": c.id, "messages": _messages(c), "response": c.response, "finish": "", "error": None,
              "row_key": "", "row_id": row_id("", c.response, [c.id])} for c in cases if c.response is not None]
    return pl.concat([answers, pl.DataFrame(given, schema=answers.schema)])


def _answered(
    settings: Settings, constitution: Constitution, cases: Sequence[Case], policy: Completer | None
) -> list[Subject]:
    """The policy's own answer to each case with conditions; without a policy, the cases that nothing else tests."""
    tested = [c for c in cases if c.conditions]
    if policy is None:
        return [Subject(c, "policy", None, NO_POLICY) for c in tested if not _revises(c, constitution)]
    g = settings.generation
    sampling = Sampling(temperature=g.temperature, top_p=g.top_p, max_tokens=settings.evaluation.max_tokens)
    answers = respond(_prompts(tested), complete=policy, sampling=sampling, what="answers of the policy")
    return [Subject(c, "policy", r["response"], r["error"], r["row_key"], (r["row_key"],))
            for c, r in zip(tested, answers.iter_rows(named=True), strict=True)]


def _held(
    settings: Settings, subjects: Sequence[Subject], prompts: Sequence[str] | None, judge_: Completer
) -> list[Fields]:
    """A row for each condition of each subject; all questions to the judge are sent together.

    ``prompts``: of all cases, from which an answer's topic is told; None: nothing but the judge is asked.
    """
    pairs = [(s, c) for s in subjects for c in s.case.conditions]
    questions = [Asked(_messages(s.case), s.text, c.value) for s, c in pairs if s.text and c.kind == "judge"]
    answers = iter(ask_yes_no(questions, ask=_ask(judge_), style=settings.labels.style))
    rows = []
    for s, c in pairs:
        if not s.text:
            rows.append(s.row(c, "ungraded", s.error or "the answer came out empty"))
        elif c.kind == "judge":
            rows.append(_by_judge(s, c, next(answers)))
        elif prompts is None:
            rows.append(s.row(c, "ungraded", "not looked at"))
        else:
            request = s.case.conversation[-1].content
            passes, why = holds(c, s.text, prompt=request, others=[p for p in prompts if p != request])
            rows.append(s.row(c, "pass" if passes else "fail", why))
    return rows


def _by_judge(subject: Subject, condition: Condition, answer: YesNo) -> Fields:
    wanted = "yes" if condition.wanted else "no"
    outcome = "ungraded" if answer.word == "ungraded" else "pass" if answer.word == wanted else "fail"
    return subject.row(condition, outcome, str(answer), answer.p_yes, answer.keys)


def _compared(constitution: Constitution, cases: Sequence[Case]) -> list[tuple[Case, Principle]]:
    """Cases with a good and a bad answer."""
    return [(c, constitution.principle(c.principle)) for c in cases if c.good is not None]


def _labels(settings: Settings, constitution: Constitution, cases: Sequence[Case], labeller: Completer) -> list[Fields]:
    """A row for each compared case whose principle labels, or asks nothing."""
    rows = []
    for case, principle in _compared(constitution, cases):
        if principle.preference is not None:
            alone = constitution.model_copy(update={"principles": (principle,)})
            rows.append(_labeled(settings, alone, case, labeller))
        elif principle.evaluation is None:
            rows.append(_preference(case, "label", "ungraded", NO_QUESTION, None, ()))
    return rows


def _judgments(
    settings: Settings, constitution: Constitution, cases: Sequence[Case], judge_: Completer
) -> list[Fields]:
    """A row for each compared case whose principle only judges."""
    judged = [(c, p) for c, p in _compared(constitution, cases) if p.preference is None and p.evaluation is not None]
    verdicts = judge([Comparison(_messages(c), c.good, c.bad, str(p.evaluation)) for c, p in judged],
                     ask=_ask(judge_), style=settings.labels.style)
    rows = []
    for (case, _), v in zip(judged, verdicts, strict=True):
        word = {"win": "A", "loss": "B"}.get(v.word, v.word)
        rows.append(_preference(case, "judge", word, v.error, v.p_a, [k for k in v.keys if k]))
    return rows


def _labeled(settings: Settings, alone: Constitution, case: Case, labeller: Completer) -> Fields:
    pair = {"pair_id": case.id, "prompt_id": case.id, "kind": "test", "category": "test", "messages": _messages(case),
            "response_a": case.good, "response_b": case.bad, "identical": False}
    (r,) = label_pairs(pl.DataFrame([pair], schema=PAIRS), alone, complete=labeller,
                       settings=settings.labels.model_copy(update={"principles": "drawn"})).to_dicts()
    return _preference(case, "label", r["label"], r["error"], r["p_a"], r["row_keys"])


def _preference(case: Case, name: Name, label: str, error: str | None, p: float | None, keys: Sequence[str]) -> Fields:
    """``label``: 'A' where the good answer is preferred in both orders."""
    outcomes = {"A": "prefers it in both orders", "B": "prefers the bad answer in both orders",
                "tie": "contradicts itself between its two orders: it prefers a place, or cannot tell"}
    who = "labeller" if name == "label" else "judge"
    why = error or f"the {who} {outcomes[label]} (p of the good answer {p:.2f})"
    outcome = "ungraded" if label == "ungraded" else "pass" if label == "A" else "fail"
    return {"case": case.id, "principle": case.principle, "subject": name, "rule": PREFER,
            "condition": "must prefer the good answer", "outcome": outcome, "why": why, "p": p, "before": case.bad,
            "response": case.good, "changed": None, "row_key": "", "row_keys": list(keys)}


def _ask(complete: Completer) -> Ask:
    def ask(calls: Sequence[Call]) -> list[Row]:
        return complete(STEP, calls, what="judge")

    return ask


def _prompts(cases: Sequence[Case]) -> pl.DataFrame:
    return pl.DataFrame([{"prompt_id": c.id, "messages": _messages(c)} for c in cases], schema=PROMPTS)


def _messages(case: Case) -> list[Message]:
    return [{"role": t.role, "content": t.content} for t in case.conversation]
