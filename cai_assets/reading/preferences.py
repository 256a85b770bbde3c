"""Which of two responses was preferred, in the columns of published sets. One row of ``FORMS`` for each way to say it.

Guarantee: a tie, two equal scores or scores against the label are never a preference; a probability is kept as it is.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import NamedTuple

from cai_assets.reading.faults import RowFault, columns_of, printable
from cai_assets.reading.turns import first_of, one_by_one

Row = Mapping[str, object]
Pair = tuple[object, object]  # the value of the chosen response, and of the rejected one

TIES = {"tie", "ties", "tied", "tie_bothbad", "bothbad", "both_bad", "draw"}
NEITHER = TIES | {"equal", "same", "a_b", "neither", "c"}
FIRST = {"a", "model_a", "response_a", "assistant_a", "conversation_a", "first", "left"}
SECOND = {"b", "model_b", "response_b", "assistant_b", "conversation_b", "second", "right"}
LABELS = ("human_label", "label", "winner", "preference", "preferred")
SAID = (*LABELS, "status")
SCORES = (("score_chosen", "score_rejected"), ("chosen_score", "rejected_score"), ("chosen_rating", "rejected_rating"),
          ("chosen-rating", "rejected-rating"))


class Form(NamedTuple):
    """``columns``: those that tell it, all of which must have a value; ``pairs``: what the row prefers to what.

    ``prompt``: whether the usual columns hold the prompt; else it is in the responses alone.
    """

    columns: tuple[str, ...]
    pairs: Callable[[Row], list[Pair]]
    prompt: bool = True


def form_of(row: Row) -> Form:
    """The form of a row; raise RowFault if it is no comparison."""
    form = next((f for f in FORMS if all(row.get(c) is not None for c in f.columns)), None)
    if form:
        return form
    if side := next((s for s in ("chosen", "rejected") if s in row), None):
        other = "rejected" if side == "chosen" and row[side] is not None else "chosen"
        raise RowFault(f"'{other}' is missing: needs 'chosen' and 'rejected', each text or messages")
    one = "; one response a row is no comparison" if first_of(row, ("response", "completion", "output")) else ""
    raise RowFault(f"no comparison: needs 'chosen' and 'rejected', or two responses and which is better{one}; "
                   f"{columns_of(row)}; 'columns' can name them")


def certainty(row: Row) -> float:
    """The probability that the chosen response is better: ``p_chosen``, or 1. Raise RowFault for a tie or reversal."""
    if any(isinstance(row.get(name), str) and _word(row[name]) in TIES for name in SAID):
        raise RowFault("a tie: neither response is preferred")
    if any(row.get(name) == "rejected" for name in LABELS):
        raise RowFault("reversed: the label says that the rejected response is better")
    for names in SCORES:
        chosen, rejected = (_number(row[name], name) if row.get(name) is not None else None for name in names)
        if chosen is not None and rejected is not None and chosen <= rejected:
            raise RowFault("a tie: both responses have the same score" if chosen == rejected else
                           "reversed: the rejected response has the higher score")
    p = 1.0 if row.get("p_chosen") is None else _number(row["p_chosen"], "p_chosen")
    if not 0.5 < p <= 1:
        why = "a tie" if p == 0.5 else "reversed: the rejected one is likelier" if 0 <= p < 0.5 else "no probability"
        raise RowFault(f"{why}: p_chosen is {p:g}")
    return p


def _named(chosen: str, rejected: str, *, prompt: bool = True) -> Form:
    return Form((chosen, rejected), lambda row: [(row[chosen], row[rejected])], prompt)


def _listed(chosen: str, rejected: str) -> Form:
    """Lists of right and of wrong answers."""
    return Form((chosen, rejected), lambda row: _matched(row[chosen], row[rejected]))


def _between(first: str, second: str, said: str, side: Callable[[object, str], int], *, prompt: bool = True) -> Form:
    """Two responses, and a column from which ``side`` reads 1 (the first is better), -1 or 0 (a tie)."""
    return Form((first, second, said), lambda row: [_better(row[first], row[second], side(row[said], said))], prompt)


def _scored(first: str, second: str, one: str, two: str) -> Form:
    return Form((first, second, one, two), lambda row: [_better(
        row[first], row[second], _sign(_number(row[one], one) - _number(row[two], two)))])


def _better(first: object, second: object, side: int) -> Pair:
    if side == 0:
        raise RowFault("a tie: neither response is preferred")
    return (first, second) if side > 0 else (second, first)


def _matched(chosen: object, rejected: object) -> list[Pair]:
    """Each of the longer list with one of the shorter, in turn."""
    if not (isinstance(chosen, list) and isinstance(rejected, list) and chosen and rejected):
        raise RowFault("expected a list of right answers and a list of wrong ones")
    return [(chosen[i % len(chosen)], rejected[i % len(rejected)]) for i in range(max(len(chosen), len(rejected)))]


def several(chosen: object, rejected: object) -> list[Pair]:
    """The pairs of a row with a prompt: more than one where a side is a list of texts (RewardBench 2, RM-Bench)."""
    sides = [[side] if isinstance(side, str) else side for side in (chosen, rejected)]
    lists = all(isinstance(side, list) and all(isinstance(text, str) for text in side) for side in sides)
    return _matched(*sides) if lists else [(chosen, rejected)]


def _index(first: object) -> Callable[[object, str], int]:
    """The side by a number: ``first`` is the first response, the next number the second."""
    def side(value: object, name: str) -> int:
        number = _number(value, name)
        return {first: 1, first + 1: -1}.get(number, 0)  # type: ignore[operator]
    return side


def _negative_is_first(value: object, name: str) -> int:
    return -_sign(_number(value, name))


def _one_is_first(value: object, name: str) -> int:
    return {1.0: 1, 0.0: -1}.get(_number(value, name), 0)


def _letter(value: object, name: str) -> int:
    word = _word(value)
    if word in NEITHER:
        raise RowFault(f"a tie: the label must be 'A' or 'B' to be a preference, found {str(value)[:40]!r}")
    if word not in FIRST | SECOND:
        raise RowFault(f"no preference: the label must be 'A' or 'B', found {printable(str(value))[:40]!r} in '{name}'")
    return 1 if word in FIRST else -1


def _word(value: object) -> str:
    """A label as one word: 'model_a' of 'Model A', and the better side of 'A>B' (JudgeBench) or '[[B>>A]]'."""
    text = str(value).casefold()
    if better := re.fullmatch(r"\W*([ab])\s*(>+|<+)\s*([ab])\W*", text):
        return better[1] if ">" in better[2] else better[3]
    return "_".join(re.findall(r"[a-z0-9]+", text))


def _number(value: object, name: str) -> float:
    try:
        return float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        raise RowFault(f"'{name}' must be a number, found {printable(str(value))[:40]!r}") from None


def _sign(number: float) -> int:
    return (number > 0) - (number < 0)


def _ranked(row: Row) -> list[Pair]:
    """Nectar: the answer of the best rank against that of the worst."""
    return [_ends(row["answers"], "answer", lambda a: -_number(a.get("rank"), "rank"))]


def _completions(row: Row) -> list[Pair]:
    """UltraFeedback: the completion with the best score against that with the worst.

    ``fine-grained_score`` before ``overall_score``, of which some 10 are known to stand for 1.
    """
    return [_ends(row["completions"], "response", lambda c: _number(
        first_of(c, ("fine-grained_score", "overall_score")), "fine-grained_score"))]


def _ends(items: object, text: str, score: Callable[[Row], float]) -> Pair:
    items = one_by_one(items)
    listed = [item for item in items if isinstance(item, Mapping)] if isinstance(items, list) else []
    if len(listed) < 2:
        raise RowFault("fewer than two responses to compare")
    ordered = sorted(listed, key=score)
    if score(ordered[-1]) == score(ordered[0]):
        raise RowFault("a tie: all responses have the same score")
    return ordered[-1].get(text), ordered[0].get(text)


def _targets(row: Row) -> list[Pair]:
    """HHH alignment: choices, and a label of 1 for the right one."""
    targets = row["targets"]
    if not isinstance(targets, Mapping):
        raise RowFault("'targets' must hold 'choices' and 'labels'")
    choices, labels = targets.get("choices"), targets.get("labels")
    if not (isinstance(choices, list) and isinstance(labels, list) and len(choices) == len(labels)):
        raise RowFault("'targets' must hold as many 'labels' as 'choices'")
    return _matched(*([c for c, label in zip(choices, labels, strict=True) if label == side] for side in (1, 0)))


def _arena(row: Row) -> list[Pair]:
    """LMSYS on Kaggle: a column for each outcome."""
    won = [_number(row.get(f"winner_model_{x}"), f"winner_model_{x}") for x in "ab"]
    return [_better(row["response_a"], row["response_b"], _sign(won[0] - won[1]))]


FORMS: tuple[Form, ...] = (
    _named("text_correct", "text_incorrect", prompt=False),  # Bai's 438 HHH evaluations
    _named("chosen", "rejected"),  # UltraFeedback binarized, hh-rlhf, Orca DPO, LLaMA-Factory, RewardBench 2, RM-Bench
    _named("chosen_response", "rejected_response"),
    _named("chosen_messages", "rejected_messages"),  # LLaMA-Factory v1
    _scored("response_a", "response_b", "score_a", "score_b"),  # a columns map
    _named("response_j", "response_k"),  # StackExchange paired: j is the better one
    _listed("corrects", "incorrects"),  # Bai's HarmfulVsEthical
    _between("response_0", "response_1", "better_response_id", _index(0)),  # PKU-SafeRLHF
    _between("response_1", "response_2", "preference_strength", _negative_is_first),  # HelpSteer2
    _between("response1", "response2", "overall_preference", _negative_is_first),  # HelpSteer3
    _between("human_ref_A", "human_ref_B", "labels", _one_is_first),  # SHP
    _between("output_1", "output_2", "preference", _index(1)),  # AlpacaFarm
    _scored("answer_0", "answer_1", "score_0", "score_1"),  # WebGPT
    _between("response_A", "response_B", "label", _letter),  # JudgeBench
    Form(("response_a", "response_b", "winner_model_a", "winner_model_b"), _arena),
    *(_between("response_a", "response_b", label, _letter) for label in LABELS),
    *(_between("conversation_a", "conversation_b", label, _letter, prompt=False) for label in LABELS),  # Arena
    Form(("prompt", "answers"), _ranked),  # Nectar
    Form(("completions",), _completions),  # UltraFeedback
    Form(("targets",), _targets),  # HHH alignment
)

# What a comparison is made of, beside its prompt.
PREFERENCE_COLUMNS = {*(column for form in FORMS for column in form.columns), *SAID, "p_chosen",
                      *(name for names in SCORES for name in names)}
