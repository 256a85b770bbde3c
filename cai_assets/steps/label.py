"""AI preference labels (Bai et al. 2022, section 4.1; both orders as in Lee et al. 2023, section 3.1).

The labeler is asked in both orders which response it prefers, and the probabilities of the answers 'A' and 'B' are
read exactly from the model, never parsed from text; with chain of thought, after reasons that it wrote before. Of a
labeler that gives no log-probabilities they are the shares of sampled replies (``answer_samples``). A pair that cannot
be compared, or whose answer cannot be read, is ungraded: a separate state, not a verdict.
``questions.py`` says what is asked, ``answers.py`` how the answers become a label.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice, tee
from typing import Any, NamedTuple

import polars as pl
import polars.selectors as cs

from cai_assets.constitution.model import Constitution, PreferenceShot, Principle
from cai_assets.engines.sampled import read_of
from cai_assets.settings import Labels
from cai_assets.steps.answers import (
    CALL,
    DECIDED,
    SAMPLED,
    UNREAD,
    VOTE,
    Answer,
    both_orders,
    by_order,
    clamped,
    deciding,
    sampling,
    verdict,
    votes,
    why_ungraded,
)
from cai_assets.steps.compare import comparison_call
from cai_assets.steps.complete import Completer, Step, Work
from cai_assets.steps.questions import (
    ORDERS,
    Judged,
    Question,
    judged_by,
    labeling_principles,
    questions_about,
    tiers_of,
)
from cai_assets.steps.tables import beside, ended
from cai_assets.steps.thought import THOUGHT, thought_about
from cai_assets.steps.why import for_labels
from cai_assets.store.keys import row_id
from cai_assets.store.tables import Parts

LABEL = Step("label")
READ = ("pair_id", "prompt_id", "messages", "response_a", "response_b", "identical", "error", "row_id_a", "row_id_b")

ADDED: dict[str, pl.DataType | type[pl.DataType]] = {
    "principle_id": pl.String, "principle_digest": pl.String, "labeller": pl.String,
    "logp_a_first": pl.Float64, "logp_b_first": pl.Float64, "logp_a_second": pl.Float64, "logp_b_second": pl.Float64,
    "p_a_first": pl.Float64, "p_a_second": pl.Float64, "p_a": pl.Float64, "p_target": pl.Float64,
    "disagreement": pl.Float64, "label": pl.String, "chosen": pl.String, "rejected": pl.String, "p_chosen": pl.Float64,
    "votes": pl.List(VOTE), "calls": pl.List(CALL),
    "row_key_first": pl.String, "row_key_second": pl.String, "row_keys": pl.List(pl.String), "row_id": pl.String,
}


def label_pairs(
    pairs: pl.DataFrame, constitution: Constitution, *, complete: Completer, settings: Labels
) -> pl.DataFrame:
    """Add label columns to every pair; same rows, same order.

    Needs pair_id, prompt_id, messages, response_a, response_b, identical and error; other columns are carried along.
    Every ``p`` is the probability of response A: ``p_a_first`` where it is shown as (A), ``p_a_second`` where it is
    shown as (B), ``p_a`` their mean, ``p_target`` that mean within ``settings.clamp``. ``label``: 'A', 'B', 'tie' (the
    two orders contradict or balance) or 'ungraded'. ``p_chosen``: ``p_target`` of the chosen response. ``logp_*``: raw
    log-probabilities where each order is one call; ``calls`` has those of every call, ``votes`` each principle's
    ``p_a``. Where the labeler's answers are sampled, ``read_from`` is 'samples', and ``replies_read`` of ``replies``
    named one. Where principles of several priorities vote, ``decided_by`` is the tier that decided, from 1, null where
    none did, and ``p_a`` is that tier's. ``principle_id`` is null where several principles judge;
    ``principle_digest`` then covers all of them.
    """
    return pl.concat(labels_of([pairs], pairs.height, constitution, complete=complete, settings=settings))


def labels_of(
    pairs: Parts, count: int, constitution: Constitution, *, complete: Completer, settings: Labels
) -> Iterator[pl.DataFrame]:
    """As ``label_pairs``, a part at a time, of ``count`` pairs."""
    principles = labeling_principles(for_labels(constitution, settings))
    shots = constitution.few_shots.preference if settings.few_shots else ()
    model = complete.engine.identity
    pairs, seen = tee(pairs)
    asked, judged = tee(_asked(seen, principles, settings))
    answers = complete.stream((_answer(q, shots, settings) for each in asked for q in each.questions), what="labels",
                              count=count * len(ORDERS) * settings.samples * (
                                  len(principles) if settings.principles == "vote" else 1),
                              asks=2 if settings.chain_of_thought else 1)

    def labeled() -> Iterator[dict[str, object]]:
        for pair, by, questions in judged:
            own = [*islice(answers, len(questions))]
            yield {**_label(pair, by, own, settings), **(sampling(own) if model.sampled else {}),
                   "labeller": model.weights}
        ended(answers)

    tiers = DECIDED if settings.principles == "vote" and tiers_of(principles) else {}
    return beside(pairs, labeled(), {"error": pl.String, **ADDED, **tiers, **(SAMPLED if model.sampled else {})})


class _Asked(NamedTuple):
    """A pair, the principles that judge it, and what the labeler is asked about it."""

    pair: Mapping[str, Any]
    by: Judged
    questions: Sequence[Question]


def _asked(pairs: Parts, principles: Sequence[Principle], settings: Labels) -> Iterator[_Asked]:
    for pair in (pair for part in pairs for pair in part.select(cs.by_name(READ, require_all=False)).iter_rows(
            named=True)):
        by = judged_by(pair["pair_id"], principles, settings)
        yield _Asked(pair, by, [] if _unfit(pair) else questions_about(pair, by, settings))


def _unfit(pair: Mapping[str, Any]) -> str | None:
    """Why a pair cannot be labeled."""
    error: str | None = pair["error"]
    return error or ("identical responses" if pair["identical"] else None)


def _answer(question: Question, shots: Sequence[PreferenceShot], settings: Labels) -> Work[Answer]:
    """One reading, after reasons where they are asked for."""
    thought = None
    if settings.chain_of_thought:
        thought = yield THOUGHT, thought_about(question, settings, shots)
        if thought.text is None:
            return Answer(question, None, None, "", thought.row_key, thought.error)
    score = yield LABEL, comparison_call(
        question.pair["messages"], *question.shown, request=question.request, style=settings.style, few_shots=shots,
        thought=thought and thought.text)
    thought_key = thought.row_key if thought else None
    if score.text is None or len(score.logprobs) != len(ORDERS):
        return Answer(question, None, None, score.row_key, thought_key, score.error or UNREAD)
    a, b = score.logprobs if question.order == "first" else reversed(score.logprobs)
    sampled = read_of(score.text) if score.finish == "sampled" else None
    return Answer(question, a, b, score.row_key, thought_key, sampled=sampled)


def _label(pair: Mapping[str, Any], judged: Judged, answers: Sequence[Answer], settings: Labels) -> dict[str, object]:
    counting, tier = deciding(answers, judged.tiers, settings.undecided)
    first, second = by_order(counting, "first"), by_order(counting, "second")
    p_a = both_orders(first, second)
    target = clamped(p_a, settings.clamp)
    a, b = pair["response_a"], pair["response_b"]
    chosen, rejected = (None, None) if p_a is None else ((a, b) if p_a >= 0.5 else (b, a))
    return {
        "error": _unfit(pair) or why_ungraded(counting),
        "principle_id": judged.principle_id, "principle_digest": judged.digest,
        "p_a_first": first, "p_a_second": second, "p_a": p_a, "p_target": target,
        "disagreement": None if first is None or second is None else abs(first - second),
        "label": verdict(first, second), "chosen": chosen, "rejected": rejected,
        "p_chosen": None if target is None else max(target, 1.0 - target),
        "votes": votes(answers), "calls": [answer.row() for answer in answers], **_keys(pair, answers, p_a),
        **({"decided_by": tier} if judged.tiers else {}),
    }


def _keys(pair: Mapping[str, Any], answers: Sequence[Answer], p_a: float | None) -> dict[str, object]:
    """The calls behind a label, and its identity. ``row_key_*``, ``logp_*``: of the first call of each order."""
    keys = [key for x in answers for key in (x.thought_key, x.row_key) if key]
    parents = [str(pair[c]) for c in ("row_id_a", "row_id_b") if pair.get(c)] or [str(pair["pair_id"])]
    columns: dict[str, object] = {"row_keys": keys, "row_id": row_id(
        "+".join(keys), None if p_a is None else repr(p_a), parents)}
    for order in ORDERS:
        own = [x for x in answers if x.question.order == order]
        columns[f"row_key_{order}"] = own[0].row_key if own else ""
        if len(own) == 1:
            columns |= {f"logp_a_{order}": own[0].logp_a, f"logp_b_{order}": own[0].logp_b}
    return columns
