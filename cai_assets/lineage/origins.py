"""Where a training prompt came from when red-teaming found it: the policy it broke, the case, the row.

Origins are in their own table beside the prompts, named by the record of ``prompts``. So they change no digest and no
key: the same prompt is the same row, whichever policy it broke.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import polars as pl

LONGEST = 200
BROKE = ("complied", "over-refused")


class Origin(NamedTuple):
    """``broke``: 'complied' or 'over-refused'. ``checkpoint``: the policy's key, or its source if it has none.

    ``suite`` is 'evaluation' for a held-out prompt of the prompt files, and ``case`` its prompt id then. ``row_key``:
    the response that was the break.
    """

    broke: str
    policy: str
    version: str
    checkpoint: str
    suite: str
    mode: str
    case: str
    row_key: str

    def __str__(self) -> str:
        mode = f" ({self.mode})" if self.mode else ""
        return (f"{self.broke}: {self.policy}@{self.version} {self.checkpoint}, case {self.case} of "
                f"{self.suite}{mode}, row {self.row_key}")


ORIGIN = pl.Struct(dict.fromkeys(Origin._fields, pl.String()))
ORIGINS = pl.Schema({"prompt_id": pl.String(), **dict.fromkeys(Origin._fields, pl.String())})


def read_origin(value: object) -> Origin | None:
    """The origin that a prompt's row states; None where it is not one, such as another data set's own 'origin'."""
    if not isinstance(value, Mapping) or value.keys() != set(Origin._fields):
        return None
    texts = [value[name] for name in Origin._fields]
    if not all(isinstance(t, str) and len(t) <= LONGEST and t.isprintable() for t in texts):
        return None
    origin = Origin(*texts)
    return origin if origin.broke in BROKE and origin.policy and origin.suite and origin.case else None


def as_struct(origins: pl.DataFrame) -> pl.DataFrame:
    """ORIGINS as ``prompt_id`` and ``origin`` (ORIGIN)."""
    return origins.select("prompt_id", origin=pl.struct(Origin._fields))


def of_struct(value: Mapping[str, Any] | None) -> Origin | None:
    """The origin in a row of a table; polars reads a struct that is missing as one of nulls in some files."""
    return None if value is None or value["policy"] is None else Origin(**value)
