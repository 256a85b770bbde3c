"""Prompts that a model writes, from examples: calls, candidates, and the filters that need no judge.

Most red-team prompts of Bai et al. 2022 (140,335 of 182,831, section 3.2) were written by a model that was shown
examples (Perez et al. 2022, arXiv 2202.03286). Guarantees: which examples a candidate is shown depends on hashes of the
training prompts alone, so that more candidates only add, and an added prompt moves few; of every candidate it is known
whether it became a prompt, and if not, why.
"""

from __future__ import annotations

import re
from bisect import bisect
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from heapq import nsmallest
from math import ceil
from typing import NamedTuple

import polars as pl

from cai_assets.constitution.draw import draw
from cai_assets.constitution.model import Constitution, Principle
from cai_assets.engines.protocol import Call, Message, Sampling
from cai_assets.reading.faults import DataError, RowFault
from cai_assets.reading.files import Raw
from cai_assets.settings import Written
from cai_assets.steps.complete import Completer, Row, Step
from cai_assets.steps.mix import texts_of
from cai_assets.steps.prompt_near import near_to, repeats
from cai_assets.steps.prompt_rows import Prompt, check_row
from cai_assets.steps.prompts import SCHEMA, PromptKind
from cai_assets.store.canonical import canonical_json, tagged_hash

WRITE = Step("write_prompt")
SOURCE = "written"
KINDS: tuple[PromptKind, ...] = ("red-team", "helpful")
HEADS: dict[PromptKind, str] = {
    "red-team": "Messages in which people try to get an AI assistant to say or do something harmful",
    "helpful": "Messages in which people ask an AI assistant for help with something harmless"}
BY_PRINCIPLE = "What matters in an answer to them: "
ASK = "Write message {}: another one of this kind that differs from all of these. Reply with the message alone."
NUMBERED = re.compile(r"^(?:message\s+)?\d+\s*[.):]\s*", re.IGNORECASE)
ALL_UP_TO, AMONG = 10_000, 64
QUOTES = (('"', '"'), ("'", "'"), ("\u201c", "\u201d"))  # around a whole message

ADDED: dict[str, pl.DataType] = {"like": pl.String(), "examples": pl.List(pl.String), "row_key": pl.String()}
COLUMNS = pl.Schema({**SCHEMA, **ADDED})
CANDIDATES = pl.Schema({
    "kind": pl.String(), "category": pl.String(), "source": pl.String(), "line": pl.Int64(), "prompt_id": pl.String(),
    "text": pl.String(), **ADDED, "p_judge": pl.Float64(), "left_out": pl.String(), "error": pl.String()})


class Draft(NamedTuple):
    """What is to be written: like one prompt, whose kind and category it has, after other ``examples`` of these (prompt
    ids)."""

    kind: PromptKind
    category: str
    source: str
    line: int
    like: str
    examples: tuple[str, ...]
    call: Call


class Candidate(NamedTuple):
    """A draft with what was written. ``prompt``: None if nothing usable was, and then ``left_out`` says why; ``error``:
    why the call failed."""

    draft: Draft
    row_key: str
    prompt: Prompt | None
    left_out: str | None
    error: str | None = None

    def out(self, why: str) -> Candidate:
        """The same, left out."""
        return self._replace(left_out=why)


def wanted(prompts: pl.DataFrame, settings: Written) -> dict[PromptKind, int]:
    """How many prompts of each kind make up the shares, of the training prompts of that kind."""
    shares: dict[PromptKind, float] = {"red-team": settings.red_team, "helpful": settings.helpful}
    own = {kind: prompts.filter(split="train", kind=kind).height for kind in KINDS}
    return {kind: round(own[kind] * share / (1 - share)) for kind, share in shares.items() if share}


def drafts(prompts: pl.DataFrame, settings: Written, *, seed: int, constitution: Constitution | None = None
           ) -> list[Draft]:
    """The candidates of every kind, ``settings.candidates`` for each prompt that is wanted. ``prompts``: SCHEMA.

    ``constitution``: each red-team candidate is for a principle of it, drawn by weight. Raise DataError if prompts of a
    kind are wanted and there is none to show.
    """
    principles = _with_a_request(constitution) if constitution else []
    found: list[Draft] = []
    for kind, number in wanted(prompts, settings).items():
        shown = prompts.filter(split="train", kind=kind)
        texts = {i: _one_line(m) for i, m in zip(shown["prompt_id"], shown["messages"].to_list(), strict=True)}
        categories = dict(zip(shown["prompt_id"], shown["category"], strict=True))
        alike = {category: _Alike(own) for category, own in _by_value(categories).items()}
        order = sorted(texts, key=lambda i: tagged_hash("written", [seed, i]))
        found += [_draft(kind, order[i % len(order)], i // len(order), texts, categories, alike, settings,
                         principles if kind == "red-team" else [], constitution.name if constitution else "")
                  for i in range(ceil(number * settings.candidates))]
    return [draft._replace(line=line) for line, draft in enumerate(found, 1)]


def candidates(prompts: pl.DataFrame, wanted: Sequence[Draft], held_out: Sequence[str], *, complete: Completer,
               max_chars: int) -> list[Candidate]:
    """What is written for each draft; left out is what is no prompt, and what is nearly the same text as one of
    ``held_out`` (normalized texts), a training prompt, or a candidate before it."""
    rows = complete(WRITE, [draft.call for draft in wanted], what="written prompts") if wanted else []
    found = [_candidate(draft, row, max_chars) for draft, row in zip(wanted, rows, strict=True)]
    own = [text for m in prompts.filter(split="train")["messages"].to_list() for text in texts_of(m)]
    return _apart(found, held_out, own)


def selected(found: Sequence[Candidate], numbers: Mapping[PromptKind, int]) -> list[Candidate]:
    """The first of each kind that nothing is against, up to its number; of the others: why not."""
    left, out = dict(numbers), []
    for one in found:
        if one.left_out is None:
            left[one.draft.kind] -= 1
        out.append(one.out("the share is reached") if one.left_out is None and left[one.draft.kind] < 0 else one)
    return out


def table(found: Sequence[Candidate], judged: Mapping[str, float | None]) -> pl.DataFrame:
    """Every candidate as CANDIDATES. ``judged``: by prompt id."""
    return pl.DataFrame([{
        "kind": c.draft.kind, "category": c.draft.category, "source": c.draft.source, "line": c.draft.line,
        "prompt_id": c.prompt.prompt_id if c.prompt else None,
        "text": c.prompt.messages[-1]["content"] if c.prompt else None, "like": c.draft.like,
        "examples": list(c.draft.examples), "row_key": c.row_key,
        "p_judge": judged.get(c.prompt.prompt_id) if c.prompt else None, "left_out": c.left_out,
        "error": c.error} for c in found], schema=CANDIDATES)


def kept(found: Sequence[Candidate]) -> pl.DataFrame:
    """The prompts as COLUMNS, sorted by ``prompt_id``."""
    rows = [{**{name: getattr(c.prompt, name) for name in SCHEMA}, "like": c.draft.like,
             "examples": list(c.draft.examples), "row_key": c.row_key} for c in found if c.left_out is None]
    return pl.DataFrame(rows, schema=COLUMNS).sort("prompt_id")


def _with_a_request(constitution: Constitution) -> list[Principle]:
    found = sorted((p for p in constitution.principles if _request(p)), key=lambda p: p.id)
    if not found:
        raise DataError(f"written.constitution: no principle of {constitution.name} has a request to write for")
    return found


def _request(principle: Principle) -> str | None:
    return principle.preference or principle.critique or principle.evaluation


class _Alike:
    """The prompts of a category, of which each draft is shown those whose hash with it is lowest.

    Of more than ``ALL_UP_TO`` only ``AMONG`` take part in that, the next ones after the draft's place on a ring of
    hashed ids: each prompt added then still moves few, and the time grows with the drafts, not with their square.
    """

    def __init__(self, ids: Sequence[str]) -> None:
        self._ids = ids
        self._ring = sorted((tagged_hash("place", i), i) for i in ids) if len(ids) > ALL_UP_TO else []

    def drawn(self, first: str, sample: int, n: int) -> list[str]:
        """At most ``n`` of them beside ``first``."""
        among = self._near(first, sample, max(AMONG, n + 1)) if self._ring else self._ids
        return nsmallest(n, (i for i in among if i != first), key=lambda i: tagged_hash("example", [first, sample, i]))

    def _near(self, first: str, sample: int, n: int) -> list[str]:
        at = bisect(self._ring, (tagged_hash("place", [first, sample]), ""))
        return [i for _, i in [*self._ring[at:at + n], *self._ring[:n]][:n]]


def _by_value(of: Mapping[str, str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name, value in of.items():
        found.setdefault(value, []).append(name)
    return found


def _draft(kind: PromptKind, first: str, sample: int, texts: Mapping[str, str], categories: Mapping[str, str],
           alike: Mapping[str, _Alike], settings: Written, principles: Sequence[Principle], name: str) -> Draft:
    """A draft like one prompt, beside others of its category that hashing draws."""
    examples = (*alike[categories[first]].drawn(first, sample, settings.examples - 1), first)
    principle = draw(principles, canonical_json(["written", first, sample])) if principles else None
    about = "" if categories[first] == "uncategorised" else f", about {categories[first]}"
    head = [f"{HEADS[kind]}{about}.", *([BY_PRINCIPLE + str(_request(principle))] if principle else [])]
    lines = [f"{n}. {texts[i]}" for n, i in enumerate(examples, 1)]
    source = f"{SOURCE} for {name}/{principle.id}" if principle else SOURCE
    return Draft(kind, categories[first], source, 0, first, examples, _call(head, lines, sample, settings))


def _call(head: Sequence[str], lines: Sequence[str], sample: int, settings: Written) -> Call:
    shown, last = "\n".join([" ".join("\n".join(head).split("\n")), "", *lines]), len(lines) + 1
    text = f"{shown}\n{last}." if settings.style == "plain" else f"{shown}\n\n{ASK.format(last)}"
    sampling = Sampling(temperature=settings.temperature, top_p=settings.top_p, max_tokens=settings.max_tokens,
                        stop=("\n",) if settings.style == "plain" else ())
    return Call(messages=({"role": "user", "content": text},), style=settings.style, sampling=sampling, sample=sample)


def _one_line(messages: Sequence[Message]) -> str:
    """What a person says first in a conversation, on one line."""
    return " ".join(next(m["content"] for m in messages if m["role"] == "user").split())


def _candidate(draft: Draft, row: Row, max_chars: int) -> Candidate:
    labels = {"kind": draft.kind, "category": draft.category}
    return Candidate(draft, row.row_key, *read_prompt(row, draft.source, draft.line, labels, max_chars), row.error)


def read_prompt(row: Row, source: str, line: int, labels: Mapping[str, str], max_chars: int
                ) -> tuple[Prompt | None, str | None]:
    """The prompt that a model wrote, or why it is left out. ``labels``: further columns of it."""
    if row.text is None:
        return None, f"not written: {row.error}"
    if row.finish == "length":
        return None, "cut at written.max_tokens"
    raw = {"messages": [{"role": "user", "content": bare(row.text)}], **labels, "split": "train"}
    try:
        prompt = check_row(Raw(source, line, raw), max_chars=max_chars, kind="helpful")
    except RowFault as fault:
        return None, f"no prompt: {fault}"
    return prompt, "chat markers in the text" if prompt.flags else None


def bare(text: str) -> str:
    """Without the number and the quotation marks that a model puts around what it writes."""
    bare = NUMBERED.sub("", text.strip()).strip()
    quoted = len(bare) > 1 and (bare[0], bare[-1]) in QUOTES
    return bare[1:-1].strip() if quoted else bare


def _apart(found: Sequence[Candidate], held_out: Sequence[str], training: Sequence[str]) -> list[Candidate]:
    for others, why in ((held_out, "nearly the same text as one to evaluate by"),
                        (training, "nearly the same text as a training prompt")):
        found = _left_out(found, why, partial(near_to, [text for text in dict.fromkeys(others) if text]))
    return _left_out(found, "nearly the same text as another written prompt", repeats)


def _left_out(found: Sequence[Candidate], why: str, drop: Callable[[list[str]], set[int]]) -> list[Candidate]:
    """Leave out those among the candidates that nothing is against yet which ``drop`` says, by their texts."""
    texts = {i: c.prompt.text for i, c in enumerate(found) if c.prompt and c.left_out is None}
    places = list(texts)
    dropped = {places[n] for n in drop([*texts.values()])}
    return [c.out(why) if i in dropped else c for i, c in enumerate(found)]
