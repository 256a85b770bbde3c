"""Faults that the critique and revision loop is known to leave in supervised data.

Each kind of fault is a pure function of the tables: which rows have it. What is looked for are signs in the text, so a
finding is a reason to read the rows, and a clean table is no proof. Bai et al. 2022 (section 3.1) report the confusion
of points of view; the other kinds are those that small models showed here (docs/experiments.md). Of a table with more
than ``MOST`` rows, that many are looked at, always the same ones.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import polars as pl

from cai_assets.constitution.model import Constitution
from cai_assets.engines.protocol import Message
from cai_assets.steps.frames import HEADINGS
from cai_assets.steps.prompt_rows import normalize
from cai_assets.store.tables import Table

MOST = 20_000
EXAMPLES = 3
ROUND = ("prompt_id", "round")
READ = ("row_id", *ROUND, "principle_id", "finish")
OPENING_WORDS, OPENING_SHARE, OPENING_PROMPTS = 5, 0.2, 3
ECHO_WORDS, ECHO_SHARE = 5, 0.25

_FRAME = re.compile(r"[\s*#\"'>]*(?:" + "|".join(map(re.escape, HEADINGS)) + ")", re.IGNORECASE)
_LEAD_IN = re.compile(
    r"[\s*#\"'>]*(?:(?:(?:revised|improved|rewritten|edited|updated|corrected|final|better)"
    r" (?:response|answer|reply|version|message|text)|revision|critique|answer|response|assistant|human|user)\W*:"
    r"|(?:(?:sure|certainly|of course|okay|ok|absolutely)\W+)?(?:here(?:['’]s| is| are)|this is|below is)"
    r" (?:(?:a|an|the|my|your|one) )?(?:[\w-]+ ){0,2}?(?:revis|re-?writ|rewrote|improved|updated|edited|corrected))",
    re.IGNORECASE)
_REVISION_VIEW = re.compile(
    r"\A\W*(?:the|this|that|your) (?:response|reply|critique) \w"
    r"|\bthe assistant['’]s (?:\w+ )?(?:response|answer|reply)\b"
    r"|\bthe assistant (?:should|could|has|is|was|gave|says|said)\b"
    r"|\b(?:my|your|the) (?:last|previous|original|initial|above) (?:response|answer|reply)\b"
    r"|\bthe (?:critique|revision) (?:request|above)\b|\bas (?:the|a) (?:user|human),",
    re.IGNORECASE)
_CRITIQUE_VIEW = re.compile(
    r"\A\W*(?:I(?:['’]m| am) (?:sorry|unable|not able|an AI)|I can(?:['’]t|not)|As an AI|Sure\b|Of course\b)"
    r"|\bI (?:asked|was asking|wanted to know)\b|\bmy (?:question|request|prompt)\b"
    r"|\bthank you for (?:your|the) (?:answer|response|reply|help)\b",
    re.IGNORECASE)


@dataclass(frozen=True)
class Tables:
    """What is looked at. ``responses`` needs prompt_id and messages; the others are as their steps made them."""

    responses: Table
    critiques: Table
    revisions: Table
    sl_dataset: Table
    constitution: Constitution

    @cached_property
    def texts(self) -> Mapping[str, list[RowText]]:
        """The rows that have a text, by table."""
        return {"critiques": _texts(self.critiques, "critique", (self.revisions, "before")),
                "revisions": _texts(self.revisions, "revision", (self.critiques, "critique"), "before"),
                "sl_dataset": _texts(self.sl_dataset, "response")}

    def messages(self, prompts: Iterable[str]) -> Mapping[str, list[Message]]:
        """The conversations of some prompts."""
        some = self.responses.read("prompt_id", "messages", where=pl.col("prompt_id").is_in(sorted({*prompts})))
        return dict(some.iter_rows())


@dataclass(frozen=True)
class RowText:
    """One row's text. ``before``: what was critiqued or revised; ``critique``: the row's own, of a revision."""

    row_id: str
    prompt_id: str
    round: int
    principle_id: str | None
    text: str
    finish: str
    before: str
    critique: str


@dataclass(frozen=True)
class Finding:
    """Rows of one table that show one kind of fault; up to ``limit`` of them, as a share, is tolerated."""

    kind: str
    table: str
    rows: int
    found: int
    limit: float
    examples: tuple[tuple[str, str], ...]  # row id and the beginning of the text

    @property
    def share(self) -> float:
        return self.found / self.rows if self.rows else 0.0

    @property
    def above(self) -> bool:
        return self.share > self.limit


@dataclass(frozen=True)
class Fault:
    """A kind of fault: what it is, how much is tolerated, the tables it is looked for in and the rows that show it."""

    about: str
    limit: float
    tables: tuple[str, ...]
    find: Callable[[Tables, str, Sequence[RowText]], Iterable[RowText]]


def inspect(tables: Tables, kinds: Sequence[str] = ()) -> list[Finding]:
    """A finding for each kind and table, whether anything was found or not. Without ``kinds``: all of KINDS."""
    out = []
    for name in kinds or KINDS:
        kind = KINDS[name]
        for table in kind.tables:
            texts = tables.texts[table]
            hits = list(kind.find(tables, table, texts))
            examples = tuple((t.row_id, t.text[:120]) for t in hits[:EXAMPLES])
            out.append(Finding(name, table, len(texts), len(hits), kind.limit, examples))
    return out


def _texts(table: Table, column: str, other: tuple[Table, str] | None = None, *also: str) -> list[RowText]:
    """Rows that have a text, with a column of the same round of another table."""
    has, names = pl.col(column).fill_null("") != "", (*READ, column, *also)
    ids = table.read("row_id", where=has).to_series()
    if len(ids) > MOST:  # ids are hashes: a fixed sample
        some = table.read(*names, where=has & pl.col("row_id").is_in(ids.sort().head(MOST).implode())).sort("row_id")
    else:
        some = table.read(*names, where=has)
    if other:
        beside = other[0].read(*ROUND, other[1], where=pl.col("prompt_id").is_in(some["prompt_id"].unique().implode()))
        some = some.join(beside, on=ROUND, how="left", maintain_order="left")
    return [RowText(r["row_id"], r["prompt_id"], r["round"], r["principle_id"], r[column], r["finish"],
                    r.get("before") or "", (r.get("critique") or "") if column == "revision" else "")
            for r in some.iter_rows(named=True)]


def _prefix_leakage(_: Tables, table: str, texts: Sequence[RowText]) -> Iterable[RowText]:
    """Outside revisions only the frame's own headings count: there, 'Here is a rewritten ...' may be right."""
    for t in texts:
        if _FRAME.match(t.text) or (table == "revisions" and _LEAD_IN.match(t.text)):
            yield t


def _point_of_view(_: Tables, table: str, texts: Sequence[RowText]) -> Iterable[RowText]:
    for t in texts:
        if table == "critiques":
            confused = bool(_CRITIQUE_VIEW.search(t.text) or _LEAD_IN.match(t.text))
        else:
            confused = bool(_REVISION_VIEW.search(t.text)) or (t.critique != "" and _same(t.text, t.critique))
        if confused:
            yield t


def _boilerplate(_: Tables, __: str, texts: Sequence[RowText]) -> Iterable[RowText]:
    """Openings shared by many prompts; the rounds of one prompt count once."""
    openings = [" ".join(normalize(t.text).split()[:OPENING_WORDS]) for t in texts]
    prompts: dict[str, set[str]] = defaultdict(set)
    for t, opening in zip(texts, openings, strict=True):
        prompts[opening].add(t.prompt_id)
    most = max(OPENING_PROMPTS - 1, OPENING_SHARE * len({t.prompt_id for t in texts}))
    return [t for t, opening in zip(texts, openings, strict=True) if len(prompts[opening]) > most]


def _truncation(_: Tables, __: str, texts: Sequence[RowText]) -> Iterable[RowText]:
    return [t for t in texts if t.finish == "length"]


def _as_before(_: Tables, __: str, texts: Sequence[RowText]) -> Iterable[RowText]:
    return [t for t in texts if _same(t.text, t.before)]


def _request_echo(tables: Tables, _: str, texts: Sequence[RowText]) -> Iterable[RowText]:
    """Word n-grams of the principle's requests and of the examples, unless the row's own conversation has them."""
    shots = set[str]()
    for shot in tables.constitution.few_shots.revision:
        shots.update(gram for text in shot.model_dump().values() for gram in _grams(text))
    requests = {p.id: shots.union(_grams(p.critique or ""), _grams(p.revision or ""))
                for p in tables.constitution.principles}
    asked = tables.messages(t.prompt_id for t in texts)
    for t in texts:
        grams = Counter(_grams(t.text))
        own = {g for m in asked.get(t.prompt_id, []) for g in _grams(m["content"])}.union(_grams(t.before))
        echoed = sum(n for g, n in grams.items() if g in requests.get(t.principle_id or "", shots) and g not in own)
        if echoed and echoed >= ECHO_SHARE * grams.total():
            yield t


def _grams(text: str) -> list[str]:
    words = normalize(text).split()
    return [" ".join(words[i : i + ECHO_WORDS]) for i in range(len(words) - ECHO_WORDS + 1)]


def _same(a: str, b: str) -> bool:
    return normalize(a) == normalize(b)


BOTH, ALL = ("critiques", "revisions"), ("critiques", "revisions", "sl_dataset")
KINDS: Mapping[str, Fault] = {
    "prefix_leakage": Fault("the text begins with a heading of the frame, or with 'Here is a revised ...'", 0.01, ALL,
                            _prefix_leakage),
    "point_of_view": Fault("a critique speaks as the human or answers, or a revision talks about the answer",
                           0.01, BOTH, _point_of_view),
    "boilerplate": Fault(f"the text begins with the same {OPENING_WORDS} words as the texts of more than "
                         f"{OPENING_SHARE:.0%} of the prompts", 0.0, ALL, _boilerplate),
    "truncation": Fault("the text was cut off by generation.max_tokens", 0.01, ALL, _truncation),
    "critique_equals_response": Fault("the critique repeats the text it should criticize", 0.01, ("critiques",),
                                      _as_before),
    "revision_unchanged": Fault("the revision repeats the text it should revise (correct if nothing was wrong)", 0.5,
                                ("revisions",), _as_before),
    "request_echo": Fault("the text repeats the principle's requests or the few-shot examples", 0.02, BOTH,
                          _request_echo),
}
