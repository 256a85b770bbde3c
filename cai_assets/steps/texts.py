"""The texts of the training before supervised learning: documents about the principles, and general text by share.

Guarantees, as of general conversations (``mix.py``): which texts of a file take part is decided by a hash of the seed
and the text, so that raising a share only adds; no text is repeated, and a file that has too few says so; what cannot
be used is counted with its reason.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import NamedTuple

import polars as pl

from cai_assets.reading.faults import RowFault
from cai_assets.reading.files import Raw, RowReader
from cai_assets.settings import Documents
from cai_assets.settings.base import Source
from cai_assets.steps.mix import Report, amounts
from cai_assets.steps.prompt_rows import check_text
from cai_assets.steps.reasons import tally
from cai_assets.store.canonical import tagged_hash
from cai_assets.store.keys import row_id

# ``source``: file and line of a general text; null for a document.
SCHEMA = pl.Schema({"row_id": pl.String(), "principle_id": pl.String(), "kind": pl.String(), "response": pl.String(),
                    "source": pl.String()})
GENERAL = "general"


class Texts(NamedTuple):
    """``frame``: as SCHEMA, the text in ``response``. ``mixed``: what became of each file."""

    frame: pl.DataFrame
    mixed: tuple[Report, ...]


class _Text(NamedTuple):
    rank: str
    name: str
    place: str
    text: str


class _Pool(NamedTuple):
    """The usable texts of a file, in the order in which they are drawn."""

    source: Source
    texts: list[_Text]
    read: int
    duplicates: int
    rejected: Mapping[str, int]
    notes: tuple[str, ...]


def texts_to_train_on(documents: pl.DataFrame, settings: Documents, *, seed: int) -> Texts:
    """The documents that are not left out, and texts of each file of ``documents.mix`` that make it its share of all.

    Raise DataError for a file that cannot be read.
    """
    own = documents.filter(pl.col("left_out").is_null()).select(
        "row_id", "principle_id", "kind", pl.col("text").alias("response"), source=pl.lit(None, pl.String))
    seen: set[str] = set()
    pools = [_pool(source, seen, seed) for source in settings.mix]
    taken = amounts(own.height, [(p.source.share, len(p.texts)) for p in pools])
    whole = own.height + sum(n.take for n in taken)
    general = [{"row_id": row_id(GENERAL, t.text, [t.name]), "principle_id": None, "kind": GENERAL, "response": t.text,
                "source": t.place} for p, n in zip(pools, taken, strict=True) for t in p.texts[: n.take]]
    reports = tuple(Report(
        file=p.source.path.name, share=p.source.share, reached=n.take / max(whole, 1), rows=n.take, wanted=n.wanted,
        read=p.read, usable=len(p.texts), duplicates=p.duplicates, near_evaluation=0, rejected=p.rejected,
        notes=p.notes) for p, n in zip(pools, taken, strict=True))
    return Texts(pl.concat([own, pl.DataFrame(general, schema=SCHEMA)]), reports)


def _pool(source: Source, seen: set[str], seed: int) -> _Pool:
    texts: list[_Text] = []
    read, duplicates, rejected = 0, 0, Counter[str]()
    reader = RowReader([source.path], {"text", "id"})
    for raw in reader:
        read += 1
        try:
            text = _text_of(raw)
        except RowFault as fault:
            rejected[str(fault)] += 1
            continue
        name = "general-" + tagged_hash("text", text).rpartition(":")[2][:16]
        if name in seen:
            duplicates += 1
            continue
        seen.add(name)
        texts.append(_Text(tagged_hash("mix", [seed, name]), name, f"{raw.source}:{raw.line}", text))
    return _Pool(source, sorted(texts), read, duplicates, tally(rejected), tuple(reader.notes))


def _text_of(raw: Raw) -> str:
    if isinstance(raw.value, RowFault):
        raise raw.value
    text = raw.value.get("text") if isinstance(raw.value, Mapping) else None
    if not isinstance(text, str):
        raise RowFault("expected an object with 'text'")
    check_text(text)
    return text
