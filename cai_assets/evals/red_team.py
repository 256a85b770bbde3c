"""What broke a policy, as rows for a person to review, and the reviewed ones as training prompts.

A break is one prompt: its worst answer is shown, and how many of its samples broke. What counts is the text rule of the
suites (``evals/suites/measures.py``); the judge's opinion is shown beside it and decides only the order.
Guarantees: nothing becomes a training prompt without a person's decision; a prompt is trained on as the policy was
asked it, without a safety prompt and without the prefill of an attack.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import polars as pl

from cai_assets.engines.protocol import Message
from cai_assets.errors import CaiError
from cai_assets.evals.suites.model import ATTACKS
from cai_assets.lineage.origins import Origin
from cai_assets.reading.faults import RowFault
from cai_assets.reading.files import Raw
from cai_assets.reading.turns import is_one_text
from cai_assets.steps.prompt_rows import check_row, text_of

Broke = Literal["complied", "over-refused"]
KIND: dict[Broke, str] = {"complied": "red-team", "over-refused": "helpful"}  # of the prompt it becomes
HARMLESS = ("over-refusal", "helpful")
EVALUATION = "evaluation"  # the suite of held-out prompts of the prompt files
EXCERPT = 600


class Break(NamedTuple):
    """A row to review. ``keep``: None until someone decides; ``context``: the turns before ``prompt``."""

    keep: bool | None
    note: str
    prompt: str
    context: tuple[Message, ...]
    kind: str
    category: str
    why: str
    p_judge: float | None
    response: str
    origin: Origin

    @property
    def messages(self) -> tuple[Message, ...]:
        """The prompt as it would be trained on."""
        return (*self.context, Message(role="user", content=self.prompt))


class Subject(NamedTuple):
    """Whose breaks: the policy's name, the version it was evaluated for, and its checkpoint's key (or its source)."""

    policy: str
    version: str
    checkpoint: str


def suite_breaks(
    rows: pl.DataFrame, subject: Subject, asked: Mapping[str, Sequence[Message]], broke: Broke,
    suites: Collection[str] = (),
) -> list[Break]:
    """Breaks among SUITE_ROWS; of ``suites``, or of all whose kind can break this way.

    ``asked``: what was sent, by row key, as the row store has it. A prompt that it does not have is left out.
    """
    kinds, broken = (ATTACKS, _complied) if broke == "complied" else (HARMLESS, _refused)
    mine = rows.filter(pl.col("policy") == subject.policy, pl.col("kind").is_in(kinds), pl.col("status") == "ok")
    chosen = mine.filter(pl.col("suite").is_in(list(suites))) if suites else mine
    worst_breaks = []
    for (suite, mode, case), group in chosen.group_by("suite", "mode", "case_id", maintain_order=True):
        samples = group.to_dicts()
        breaks = [r for r in samples if broken(r) and r["row_key"] in asked]
        if breaks:
            worst = max(breaks, key=_badness)
            origin = Origin(broke, *subject, str(suite), str(mode), str(case), worst["row_key"])
            turns = as_asked(asked[worst["row_key"]], safety=str(mode).endswith("+safety"))
            worst_breaks.append(_break(worst, turns, origin, _why(worst, broke, len(breaks), len(samples))))
    return in_order(worst_breaks)


def evaluation_breaks(
    rows: pl.DataFrame, prompts: pl.DataFrame, subject: Subject, broke: Broke
) -> list[Break]:
    """Breaks among the held-out prompts: ``rows`` of the asset ``evaluation``, ``prompts`` with their messages."""
    kind, broken = ("red-team", _complied) if broke == "complied" else ("helpful", _refused)
    mine = rows.filter(pl.col("policy") == subject.policy, pl.col("kind") == kind, pl.col("response").is_not_null())
    with_messages = mine.join(prompts.select("prompt_id", "messages"), on="prompt_id", maintain_order="left")
    with_compliance = with_messages.with_columns(
        p_judge=pl.lit(None, pl.Float64), compliance=((pl.col("words") > 0) & ~pl.col("refusal")).cast(pl.Float64))
    breaks: dict[str, list[dict[str, Any]]] = {}
    for row in with_compliance.iter_rows(named=True):
        breaks.setdefault(row["prompt_id"], []).append(row)
    worst_breaks = []
    for prompt, samples in breaks.items():
        worst = next((r for r in samples if broken(r)), None)
        if worst is not None:
            origin = Origin(broke, *subject, EVALUATION, "", prompt, worst["row_key"])
            count = sum(map(broken, samples))
            worst_breaks.append(_break(worst, worst["messages"], origin, _why(worst, broke, count, len(samples))))
    return in_order(worst_breaks)


def in_order(breaks: Iterable[Break]) -> list[Break]:
    """Each prompt once, worst by the judge first; unjudged prompts come last."""
    best: dict[str, Break] = {}
    for b in sorted(breaks, key=lambda b: (b.p_judge is None, -_worse(b))):
        best.setdefault(text_of(b.messages), b)
    return list(best.values())


def as_asked(messages: Sequence[Message], *, safety: bool) -> tuple[Message, ...]:
    """The conversation up to the last turn of the user; with ``safety`` without its system turn."""
    last = max(i for i, m in enumerate(messages) if m["role"] == "user")
    turns = tuple(messages[: last + 1])
    return tuple(m for m in turns if m["role"] != "system") if safety else turns


class Accepted(NamedTuple):
    """Rows of a prompt file, and what was not made one: dropped by the reviewer, or a training prompt already."""

    rows: list[dict[str, Any]]
    dropped: int
    known: int


class NotReviewed(CaiError, ValueError):
    """Rows without a decision, or that cannot be prompts. The message says which."""


def accept(breaks: Sequence[Break], training: Collection[str], *, max_chars: int) -> Accepted:
    """The kept rows as rows of a prompt file. ``training``: normalized texts of what is trained on already.

    Raise NotReviewed if a row has no decision or is kept and cannot be a prompt; then nothing is accepted.
    """
    open_ = [str(n) for n, b in enumerate(breaks, start=1) if b.keep is None]
    if open_:
        raise NotReviewed(f"{len(open_)} of {len(breaks)} rows are not reviewed (row {', '.join(open_[:10])}"
                          f"{', ...' if len(open_) > 10 else ''}): decide on each, 'keep' is yes or no")
    seen, rows, known = set(training), list[dict[str, Any]](), 0
    for number, b in enumerate(breaks, start=1):
        if b.keep:
            row = _prompt(b)
            try:
                text = check_row(Raw("review", number, row), max_chars=max_chars, kind=b.kind).text
            except RowFault as fault:
                raise NotReviewed(f"row {number} cannot be a prompt: {fault}; edit it, or set 'keep' to no") from None
            known += text in seen
            if text not in seen:
                rows.append(row)
            seen.add(text)
    return Accepted(rows, sum(not b.keep for b in breaks), known)


def _prompt(b: Break) -> dict[str, Any]:
    alone = not b.context and is_one_text(b.prompt)  # else it would be read as a conversation
    text: dict[str, Any] = {"prompt": b.prompt} if alone else {"messages": list(b.messages)}
    note = {"note": b.note} if b.note else {}
    return {"kind": b.kind, "category": b.category, "split": "train", **text, "origin": b.origin._asdict(), **note}


def _break(row: Mapping[str, Any], messages: Sequence[Message], origin: Origin, why: str) -> Break:
    return Break(None, "", messages[-1]["content"], tuple(messages[:-1]), KIND[origin.broke],  # type: ignore[index]
                 row["category"] or "uncategorised", why, row["p_judge"], row["response"][:EXCERPT], origin)


def _complied(row: Mapping[str, Any]) -> bool:
    return bool(row["compliance"] == 1)


def _refused(row: Mapping[str, Any]) -> bool:
    return row["refusal"] is True


def _badness(row: Mapping[str, Any]) -> float:
    p = row["p_judge"]
    return -1.0 if p is None else p if row["compliance"] == 1 else 1 - p


def _worse(b: Break) -> float:
    p = b.p_judge if b.p_judge is not None else 0.0
    return p if b.origin.broke == "complied" else 1 - p


def _why(row: Mapping[str, Any], broke: Broke, count: int, samples: int) -> str:
    what = "answers, and does not decline" if broke == "complied" else "declines a harmless request"
    times = f" in {count} of {samples} samples" if samples > 1 else ""
    p = row["p_judge"]
    judge = "" if p is None else f"; the judge gives {p:.2f} that the answer has what was asked for"
    return f"{what}{times}{judge}"


def training_texts(prompts: pl.DataFrame) -> set[str]:
    """Normalized texts of the training prompts among ``prompts`` (the prompts table)."""
    return {text_of(m) for m in prompts.filter(split="train")["messages"].to_list()}


def parse_messages(payload: str) -> tuple[Message, ...]:
    """What was sent, from a row's stored payload."""
    return tuple(json.loads(payload)["call"]["messages"])
