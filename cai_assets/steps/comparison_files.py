"""Read files of human comparisons: which of two responses to a prompt people preferred.

Guarantee: every row read gives comparisons or is a reject with its place and reason; a tie is never a preference. A
comparison has a conversation that ends with the user (checked like any prompt) and two different, visible responses.
What is understood: ``reading/preferences.py``, with examples in docs/data.md.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from cai_assets.reading.faults import RowFault
from cai_assets.reading.files import Raw, RowReader
from cai_assets.reading.names import split_of_name
from cai_assets.reading.preferences import PREFERENCE_COLUMNS
from cai_assets.reading.ratings import RATED, grouped
from cai_assets.reading.replies import Preference, preferences_of
from cai_assets.reading.rows import PROMPT_COLUMNS, fields_of
from cai_assets.settings.columns import NO_MAP, Columns
from cai_assets.steps.prompt_rows import check_row, check_text, excerpt
from cai_assets.steps.prompts import REJECTS
from cai_assets.steps.reasons import tally
from cai_assets.store.canonical import tagged_hash

SCHEMA = pl.Schema({
    "pair_id": pl.String(), "prompt_id": pl.String(),
    "messages": pl.List(pl.Struct({"role": pl.String(), "content": pl.String()})),
    "chosen": pl.String(), "rejected": pl.String(), "p_chosen": pl.Float64(),
})

COLUMNS = {*PROMPT_COLUMNS, *PREFERENCE_COLUMNS, *RATED, "id", "split", "why"}


@dataclass(frozen=True)
class Comparisons:
    """``frame`` (SCHEMA), sorted by ``pair_id``, which is a hash of the texts; ``rejects``: place, reason, excerpt.

    ``p_chosen``: the soft label, where a row has one, and 1 elsewhere. ``rows``: how many were read; those that are no
    reject gave at least one comparison each. ``notes`` names files that gave no row.
    """

    frame: pl.DataFrame
    rejects: pl.DataFrame
    rows: int
    notes: tuple[str, ...] = ()

    @property
    def left_out(self) -> dict[str, int]:
        """How many rejects have each reason."""
        return tally(self.rejects["reason"])


def read_comparisons(
    path: Path, *, limit: int | None = None, columns: Columns = NO_MAP, soft: bool = True, training: bool = False
) -> Comparisons:
    """Read all comparisons of a file or folder, or ``limit`` of them, drawn by their hashes: always the same ones.

    ``soft``: whether soft labels are of use; else their rows are rejects. ``training``: whether rows are to be trained
    on; then those of an evaluation split are rejects. Raise DataError for a file that cannot be read at all.
    """
    pairs: dict[str, dict[str, object]] = {}
    rejects, rows, reader = [], 0, RowReader([path], COLUMNS, columns)
    for raw in grouped(reader):
        rows += 1
        try:
            found = {str(row["pair_id"]): row for row in _comparisons(raw, columns, soft=soft, training=training)}
            if found.keys() <= pairs.keys():
                raise RowFault("repeats an earlier comparison")
        except RowFault as fault:
            rejects.append((raw.source, raw.line, str(fault), excerpt(raw)))
        else:
            pairs.update(found)
    frame = pl.DataFrame(list(pairs.values()), schema=SCHEMA).sort("pair_id").head(limit or len(pairs))
    return Comparisons(frame, pl.DataFrame(rejects, schema=REJECTS, orient="row"), rows, tuple(reader.notes))


def _comparisons(raw: Raw, columns: Columns, *, soft: bool, training: bool) -> Iterator[dict[str, object]]:
    row = fields_of(raw.value, columns, "'prompt', 'chosen' and 'rejected'")
    if training and "evaluation" in (raw.split, split_of_name(str(row.get("split") or ""))):
        raise RowFault("its split is for evaluation")
    for preference in preferences_of(row):
        if preference.p_chosen < 1 and not soft:
            raise RowFault("a soft label is no person's decision")
        yield _comparison(raw, preference)


def _comparison(raw: Raw, preference: Preference) -> dict[str, object]:
    asked = Raw(raw.source, raw.line, {"messages": list(preference.messages)})
    prompt = check_row(asked, max_chars=sys.maxsize, kind="helpful")
    for text in (preference.chosen, preference.rejected):
        check_text(text)
    key = tagged_hash("comparison", [prompt.messages, preference.chosen, preference.rejected]).rpartition(":")[2][:16]
    return {"pair_id": f"h-{key}", "prompt_id": prompt.prompt_id, "messages": prompt.messages,
            "chosen": preference.chosen, "rejected": preference.rejected, "p_chosen": preference.p_chosen}
