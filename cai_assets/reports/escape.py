"""Show texts of rows to people without letting the texts act.

A row's text may hold markdown images, links, HTML, control characters or bidirectional overrides. Nothing of it may
become live where it is shown, and what cannot be seen is written out.
"""

from __future__ import annotations

import re
import unicodedata

_UNSEEN = {"Cc", "Cf", "Cs", "Zl", "Zp"}
_MARKDOWN = re.compile(r"[\\`*_{}\[\]<>#!|~&@$]|:(?=//)|(?<=www)\.", re.IGNORECASE)


def visible(text: str) -> str:
    """Write out control, format, surrogate and separator characters as ``\\u202e``; keep line feed and tab."""
    lines = text.replace("\r\n", "\n")
    return "".join(f"\\u{ord(c):04x}" if unicodedata.category(c) in _UNSEEN and c not in "\n\t" else c for c in lines)


def shorten(text: str, limit: int) -> str:
    """At most ``limit`` characters, the last one '…' if anything is cut."""
    return text if len(text) <= limit else text[: max(limit - 1, 0)] + "…"


def inline(text: str, limit: int = 200) -> str:
    """One line of markdown that shows ``text`` and means nothing; fit for a table cell."""
    line = shorten(" ".join(visible(text).split()), limit)
    return _MARKDOWN.sub(lambda m: "\\" + m.group(), line)


def fenced(text: str, language: str = "") -> str:
    """A code block around ``text`` that nothing inside it can close."""
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{text}\n{fence}"
