"""Why rows were rejected or calls failed, as one line: how many, of how many, and the commonest reasons.

Every place that tells it (the terminal, a run's log, an asset's page, an error) shows this line.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from textwrap import shorten

MOST, LONGEST = 3, 240
VALUE = re.compile(r"'[^']*'|\"[^\"]*\"|\d[\d,.]*")  # what differs between rows that have the same fault
# Of an error as JSON, cut or whole.
SERVERS_WORDS = re.compile(r"\{.*?\"message\":\s*\"((?:[^\"\\]|\\.)*).*", re.DOTALL)


def reason_line(n: int, of: int, what: str, reasons: Iterable[str] | Mapping[str, int]) -> str:
    """"300 of 628 rows rejected: 145 x the last turn is not by the user, ..."; '' for none.

    ``reasons``: one for each of the ``n``, or each with its count; those that differ in values alone are one reason,
    shown by its first example.
    """
    if not n:
        return ""
    counted = tally(reasons)
    why = next(iter(counted)) if list(counted.values()) == [n] else commonest(counted)
    return f"{n:,} of {of:,} {what}" + (f": {why}" if why else "")


def commonest(reasons: Iterable[str] | Mapping[str, int]) -> str:
    """"145 x ...; 120 x ...; 35 x 4 other reasons"."""
    counted = sorted(tally(reasons).items(), key=lambda reason: -reason[1])
    rest = counted[MOST:]
    more = [f"{sum(n for _, n in rest)} x {len(rest)} other reasons"] if rest else []
    return "; ".join([f"{n} x {text}" for text, n in counted[:MOST]] + more)


def tally(reasons: Iterable[str] | Mapping[str, int]) -> dict[str, int]:
    """How many have each reason, by the first example of it."""
    examples: dict[str, str] = {}
    counts: dict[str, int] = {}
    for reason, n in reasons.items() if isinstance(reasons, Mapping) else ((reason, 1) for reason in reasons):
        example = examples.setdefault(VALUE.sub("", reason), _short(reason))
        counts[example] = counts.get(example, 0) + n
    return counts


def _short(reason: str) -> str:
    return shorten(SERVERS_WORDS.sub(r"\1", reason), LONGEST, placeholder=" ...")
