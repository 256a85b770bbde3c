"""What can be wrong with a file, and with one row of it."""

from __future__ import annotations

from collections.abc import Mapping

from cai_assets.errors import CaiError

BOM = b"\xef\xbb\xbf"
SHOWN = 20
_TYPES = {"NoneType": "null", "str": "text", "bool": "true or false", "int": "a number", "float": "a number",
          "list": "a list", "dict": "an object"}


class DataError(CaiError, ValueError):
    """A file or folder of rows that cannot be read at all. The message says which, why and what to do."""


class NotRows(DataError):
    """A file that is whole and holds no rows: one JSON object."""


class RowFault(CaiError, ValueError):
    """Why one row cannot be used. ``excerpt`` is set when the row could not even be parsed."""

    def __init__(self, reason: str, excerpt: str = "") -> None:
        super().__init__(reason)
        self.excerpt = excerpt


def printable(text: str) -> str:
    """Escape everything that could move a cursor, hide or reorder text: safe to print, never to parse back."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def type_of(value: object) -> str:
    """What a value is, in words."""
    return _TYPES.get(type(value).__name__, type(value).__name__)


def columns_of(row: Mapping[str, object]) -> str:
    """The names of a row's columns, for a reason."""
    names = [printable(str(name))[:60] for name in row]
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return "the columns are " + ", ".join(names[:SHOWN]) + more
