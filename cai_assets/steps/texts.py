"""The texts of the training before supervised learning: documents about the principles, and general text by share
(``shares.py``), of which none is mixed in that quotes (``quoted.py``) what policies are measured by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import polars as pl

from cai_assets.reading.faults import RowFault
from cai_assets.reading.files import Raw
from cai_assets.settings import Documents
from cai_assets.settings.columns import Columns
from cai_assets.steps.prompt_rows import check_text
from cai_assets.steps.quoted import quoting
from cai_assets.steps.shares import GENERAL, Form, Report, shares
from cai_assets.store.keys import row_id

# ``source``: file and line of a general text; null for a document.
SCHEMA = pl.Schema({"row_id": pl.String(), "principle_id": pl.String(), "kind": pl.String(), "response": pl.String(),
                    "source": pl.String()})


class Texts(NamedTuple):
    """``frame``: as SCHEMA, the text in ``response``. ``mixed``: what became of each file."""

    frame: pl.DataFrame
    mixed: tuple[Report, ...]


def texts_to_train_on(documents: pl.DataFrame, settings: Documents, held_out: Sequence[str], *, seed: int) -> Texts:
    """The documents that are not left out, and texts of each file of ``documents.mix`` that make it its share of all.

    ``held_out``: texts, normalized, that no general text may quote. Raise DataError for a file that cannot be read.
    """
    own = documents.filter(pl.col("left_out").is_null()).select(
        "row_id", "principle_id", "kind", pl.col("text").alias("response"), source=pl.lit(None, pl.String))
    form = Form(frozenset({"text", "id"}), usable=_text_of, content=lambda text: ("text", text),
                near=lambda texts: quoting(texts, held_out))
    found = shares(form, settings.mix, own.height, seed=seed)
    general = [{"row_id": row_id(GENERAL, t.row, [t.name]), "principle_id": None, "kind": GENERAL, "response": t.row,
                "source": t.place} for t in found.rows]
    return Texts(pl.concat([own, pl.DataFrame(general, schema=SCHEMA)]), found.reports)


def _text_of(raw: Raw, _: Columns) -> str:
    if isinstance(raw.value, RowFault):
        raise raw.value
    text = raw.value.get("text") if isinstance(raw.value, Mapping) else None
    if not isinstance(text, str):
        raise RowFault("expected an object with 'text'")
    check_text(text)
    return text
