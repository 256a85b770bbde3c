"""Values of rules on a text that a file may hold: regular expressions, and numbers of words."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Annotated

import polars as pl
import yaml
from pydantic import AfterValidator, StringConstraints

MOST_REPEATS = 1_000
MOST_WORDS = 9_999


def bounded(pattern: str) -> str:
    """The pattern, if it can be matched in bounded time. Raise ValueError.

    It is matched by Rust's regex engine, which never backtracks; repetitions multiply its cost.
    """
    repeats = 1
    for low, high in re.findall(r"\{(\d+)(?:,(\d*))?\}", pattern):
        repeats *= max(int(low), int(high or 0), 1)
    if repeats > MOST_REPEATS:
        raise ValueError(f"'match' repeats a part up to {repeats:,} times: stay under {MOST_REPEATS:,}")
    try:
        pl.Series([""]).str.contains(pattern)
    except pl.exceptions.ComputeError as e:
        match = re.search(r"^error: (.+)$", str(e), re.MULTILINE)
        reason = match[1] if match else "it is too large"
        raise ValueError(f"'match' is not a regular expression supported here: {reason}") from None
    return pattern


Pattern = Annotated[str, StringConstraints(min_length=1, max_length=200), AfterValidator(bounded)]


def count_of(name: str) -> Callable[[yaml.ScalarEvent], tuple[int, str]]:
    """Reads a whole number of words, and says what is wrong with it or ''. ``name``: of its key."""
    def read(event: yaml.ScalarEvent) -> tuple[int, str]:
        if not event.style and re.fullmatch(r"[1-9]\d{0,3}", event.value, re.ASCII):
            return int(event.value), ""
        return 1, f"'{name}' must be a whole number from 1 to {MOST_WORDS}, not {ascii(event.value)[:60]}"

    return read
