"""Documents about the principles: what a policy may read of its constitution before it learns from examples.

Explaining the values behind rules before supervised learning makes what is learned generalize better (Model Spec
Midtraining, arXiv 2605.02087). Guarantees: a document sees one principle and no other, so that an edited principle has
its own documents written again and no others; more documents only add; of each it is known whether it is trained on,
and if not, why.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import polars as pl

from cai_assets.constitution.model import Constitution, Principle
from cai_assets.engines.protocol import Call, Sampling
from cai_assets.settings import Documents
from cai_assets.steps.complete import Completer, Row, Step
from cai_assets.steps.prompt_near import repeats
from cai_assets.steps.prompt_rows import normalize
from cai_assets.steps.quoted import quoting
from cai_assets.store.keys import row_id

WRITE = Step("write_document")
QUOTES = "quotes a text to evaluate by"
REPEATS = "nearly the same text as another document"
TASKS = {
    "article": "Write an article of several paragraphs about the following principle of an AI assistant, for readers "
               "who have never heard of it: what it asks for, why somebody would want that, where it is easy to keep "
               "and where it is hard.",
    "dialogue": "Write a conversation between a person and an AI assistant that holds to the following principle. The "
                "person asks for something in which it matters, the assistant answers as it asks, and when the person "
                "wonders why, the assistant gives its reasons.",
    "memo": "Write a memo in which the people who train an AI assistant tell their colleagues how it behaves by the "
            "following principle: what it does and does not do, with two examples, and why it was made so.",
}
END = "Write the {} alone, in your own words."
SAID = {"critique": "Of an answer it is asked", "revision": "The assistant is then told",
        "preference": "Two answers are compared by", "evaluation": "And judged by", "rubric": "One answer is judged by",
        "why": "The reason for it"}
COLUMNS = pl.Schema({
    "document_id": pl.String(), "principle_id": pl.String(), "kind": pl.String(), "text": pl.String(),
    "finish": pl.String(), "left_out": pl.String(), "error": pl.String(), "row_key": pl.String(),
    "row_id": pl.String()})


class Draft(NamedTuple):
    """A document to write: the ``number``-th of its kind about a principle, from 1 on."""

    principle: Principle
    kind: str
    number: int

    @property
    def name(self) -> str:
        return f"{self.principle.id}/{self.kind}/{self.number}"


def write_documents(constitution: Constitution, settings: Documents, *, held_out: Sequence[str] = (),
                    complete: Completer) -> pl.DataFrame:
    """Every document as COLUMNS, in the order of principles (by id), kinds and numbers. ``left_out``: why a document
    is not trained on; null if it is. ``held_out``: normalized texts of which none may stand in a document."""
    drafts = [Draft(principle, kind, number) for principle in sorted(constitution.principles, key=lambda p: p.id)
              for kind in settings.kinds for number in range(1, settings.per_kind + 1)]
    rows = complete(WRITE, [document_call(draft, settings) for draft in drafts], what="documents") if drafts else []
    found = pl.DataFrame([_fields(draft, row) for draft, row in zip(drafts, rows, strict=True)], schema=COLUMNS)
    texts = found["text"].to_list()
    for why, out in ((QUOTES, quoting(texts, held_out)), (REPEATS, _repeats(texts))):
        reason = pl.Series([why if i in out else None for i in range(found.height)], dtype=pl.String)
        found = found.with_columns(left_out=pl.coalesce("left_out", reason))
    return found


def document_call(draft: Draft, settings: Documents) -> Call:
    """The task, and all that the principle says; in the plain style with the kind as the heading to continue under."""
    shown = "\n".join([f"The principle '{draft.principle.id}':", *_said(draft.principle)])
    end = draft.kind.capitalize() + ":" if settings.style == "plain" else END.format(draft.kind)
    sampling = Sampling(temperature=settings.temperature, top_p=settings.top_p, max_tokens=settings.max_tokens)
    return Call(messages=({"role": "user", "content": f"{TASKS[draft.kind]}\n\n{shown}\n\n{end}"},),
                style=settings.style, sampling=sampling, sample=draft.number - 1)


def _said(principle: Principle) -> Iterator[str]:
    for name, lead in SAID.items():
        if text := getattr(principle, name):
            yield f"{lead}: {' '.join(str(text).split())}"


def _fields(draft: Draft, row: Row) -> dict[str, str | None]:
    text = row.text.strip() if row.text else ""
    why = f"not written: {row.error}" if row.text is None else None if text else "empty"
    return {"document_id": draft.name, "principle_id": draft.principle.id, "kind": draft.kind, "text": text or None,
            "finish": row.finish, "left_out": why, "error": row.error, "row_key": row.row_key,
            "row_id": row_id(row.row_key, row.text, [draft.name])}


def _repeats(texts: list[str | None]) -> set[int]:
    """Positions of texts that are nearly the same as one before them."""
    there = [i for i, text in enumerate(texts) if text and normalize(text)]
    return {there[i] for i in repeats([normalize(str(texts[i])) for i in there])}
