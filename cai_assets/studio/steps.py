"""One chain of a version, step by step: prompt, first response, critiques, revisions, pairs and labels, as blocks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import polars as pl

from cai_assets.lineage.chain import UnknownRow
from cai_assets.reports.compare.sides import Side
from cai_assets.reports.html.page import Block, Diff, Passage, Text

NO_TEXT = "(no text)"


class Step(NamedTuple):
    """``name`` is the same in every version; ``text``: what it came to, to be compared with another version's."""

    name: str
    text: str
    blocks: Sequence[Block]


def steps_of(side: Side, prompt: str) -> list[Step]:
    """Every step of the chain of a prompt. Raise UnknownRow if the version has none."""
    response = _rows(side, "starting_responses", prompt)
    if not response:
        raise UnknownRow(prompt)
    first = response[0]
    return [Step("Prompt", said(first["messages"]), [Passage(f"Prompt {prompt}", said(first["messages"]),
                                                             note=f"{first['kind']}, {first['category']}")]),
            Step("First response", first["response"] or "", [Passage("First response", first["response"] or NO_TEXT)]),
            *_rounds(side, prompt), *_pairs(side, prompt)]


def side_by_side(one: Sequence[Step], other: Sequence[Step]) -> list[tuple[Step | None, Step | None]]:
    """The steps of two versions by name, in their order; of ``other`` only what differs is shown in full."""
    here, there = {s.name: s for s in one}, {s.name: s for s in other}
    return [(here.get(name), _beside(here.get(name), there.get(name))) for name in dict.fromkeys([*here, *there])]


def said(messages: Sequence[Mapping[str, str]]) -> str:
    """A conversation as a text; one message is itself."""
    if len(messages) == 1:
        return messages[0]["content"]
    return "\n\n".join(f"{m['role']}: {m['content']}" for m in messages)


def _beside(here: Step | None, there: Step | None) -> Step | None:
    if here is None or there is None:
        return there
    if here.text == there.text:
        return there._replace(blocks=[Text(f"{there.name}: the same.")])
    return there._replace(blocks=[*there.blocks, Diff("What differs from the other version", here.text, there.text)])


def _rounds(side: Side, prompt: str) -> Iterator[Step]:
    critiques = {row["round"]: row for row in _rows(side, "critiques", prompt)}
    for row in _rows(side, "revisions", prompt, "round"):
        number, principle = row["round"], row["principle_id"]
        critique = critiques.get(number, {}).get("critique")
        if critique:
            yield Step(f"Round {number}: critique", critique, [Passage(
                f"Round {number}: critique by {principle}", critique, note=_request(side, principle, "critique"))])
        shown: Block = Diff(f"Round {number}: revision", row["before"] or "", row["revision"],
                            note=_request(side, principle, "revision")) if row["revision"] else Text(
            f"Round {number}, {principle}: {row['error'] or row['stopped'] or NO_TEXT}.")
        yield Step(f"Round {number}: revision", row["revision"] or "", [shown])


def _pairs(side: Side, prompt: str) -> Iterator[Step]:
    for row in _rows(side, "preference_pairs", prompt, "pair_id"):
        who, label = row["principle_id"] or "all principles", row["label"]
        sure = "" if row["p_a"] is None else f", probability of A {row['p_a']:.2f}"
        name = f"Pair {row['pair_id']}"
        verdict = f"{name}: {label or 'no label'} by {who}{sure}" + (f" ({row['error']})" if row["error"] else "")
        texts = {letter: row[f"response_{letter.lower()}"] or NO_TEXT for letter in "AB"}
        yield Step(name, "\n".join([*texts.values(), f"Label: {label}"]), [
            Text(verdict), *(Passage(f"Response {letter}{' (preferred)' if letter == label else ''}", text,
                                     note=_origin(row, letter)) for letter, text in texts.items())])


def _origin(row: Mapping[str, Any], letter: str) -> str:
    origin = row.get(f"origin_{letter.lower()}")
    return f"from: {origin}" if origin else ""


def _request(side: Side, principle: str | None, use: str) -> str:
    """What the principle asks for, as the version says it."""
    asked = {p.id: getattr(p, use) for p in side.constitution.principles}.get(principle or "")
    return str(asked or "")


def _rows(side: Side, asset: str, prompt: str, order: str = "prompt_id") -> list[dict[str, Any]]:
    table = side.table(asset, where=pl.col("prompt_id") == prompt)
    return [] if table is None else table.sort(order).to_dicts()
