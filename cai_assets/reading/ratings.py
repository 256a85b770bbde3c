"""Files with a row for each rated response (HelpSteer), where those to one prompt follow each other."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import groupby

from cai_assets.reading.files import Raw

PROMPT, RESPONSE, RATING = RATED = ("prompt", "response", "helpfulness")


def grouped(raws: Iterable[Raw]) -> Iterator[Raw]:
    """The rows as they are, but the rated responses to one prompt as one row, which lists them with their scores."""
    for prompt, group in groupby(raws, key=_prompt):
        if prompt is None:
            yield from group
        else:
            yield _together(list(group))


def _prompt(raw: Raw) -> tuple[str, str] | None:
    row = raw.value
    if isinstance(row, Mapping) and all(row.get(column) is not None for column in RATED):
        return raw.source, str(row[PROMPT])
    return None


def _together(raws: list[Raw]) -> Raw:
    rows = [raw.value for raw in raws if isinstance(raw.value, Mapping)]
    return replace(raws[0], value={**rows[0], "completions": [
        {"response": row[RESPONSE], "overall_score": row[RATING]} for row in rows]})
