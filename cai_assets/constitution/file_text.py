"""The text of a file that a person wrote, and what is wrong with it, by line and column."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

from cai_assets.errors import CaiError

MAX_BYTES = 2 * 1024 * 1024
MAX_SHOWN = 20
UNPRINTABLE = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


class Mark(NamedTuple):
    line: int
    column: int


class Problem(NamedTuple):
    """One fault; prints as ``where:line:column: message``, counted from 1."""

    where: str
    line: int
    column: int
    message: str

    def __str__(self) -> str:
        return f"{self.where}:{self.line}:{self.column}: {self.message}"


class FileError(CaiError, ValueError):
    """A file that cannot be used. ``problems``: all that were found, in file order."""

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__(problems)
        self.problems = sorted(problems, key=lambda p: (p.line, p.column))

    def __str__(self) -> str:
        more = len(self.problems) - MAX_SHOWN
        rest = [f"... and {more} more"] if more > 0 else []
        return "\n".join([str(p) for p in self.problems[:MAX_SHOWN]] + rest)


def read_bytes(path: Path, error: type[FileError]) -> bytes:
    """At most one byte more than a file may have. Raise ``error`` if it cannot be read."""
    try:
        with path.open("rb") as f:
            return f.read(MAX_BYTES + 1)
    except OSError as e:
        raise error([Problem(str(path), 1, 1, f"cannot be read: {e.strerror}")]) from e


class Stop(CaiError):
    """Reading cannot continue."""

    def __init__(self, mark: Mark, message: str) -> None:
        super().__init__(message)
        self.mark, self.message = mark, message


def decode(text: bytes | str, noun: str) -> str:
    """The text of a file. Raise Stop if it is too large, not UTF-8, or holds what no text may hold."""
    if len(text) > MAX_BYTES:
        raise Stop(Mark(1, 1), f"is larger than {MAX_BYTES} bytes: a {noun} is much smaller")
    if isinstance(text, bytes):
        return decode(_utf8(text), noun)
    if bad := UNPRINTABLE.search(text):
        raise Stop(_mark_after(text[: bad.start()]), f"character U+{ord(bad[0]):04X} cannot be in a text: remove it")
    return text.removeprefix("\ufeff")


def _utf8(data: bytes) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as e:
        message = f"byte 0x{data[e.start]:02X} at offset {e.start} is not UTF-8: save the file as UTF-8"
        raise Stop(_mark_after(data[: e.start].decode("utf-8")), message) from None


def _mark_after(before: str) -> Mark:
    lines = re.split(r"\r\n|\r|\n", before.removeprefix("\ufeff"))
    return Mark(len(lines), len(lines[-1]) + 1)
