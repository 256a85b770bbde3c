"""Pages that people read (HTML, Markdown), each with the digest of its own text in its last line.

A page is rebuilt from records, under the same name: no record can name its bytes, so it names them itself.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from cai_assets.store.layout import Layout

LAST = re.compile(rb"<!-- sha256:([0-9a-f]{64}) of all above -->\n\Z")
# What is left of a last line that was itself changed.
REST = re.compile(rb"<!-- sha256:|of all above -->")


def write_page(layout: Layout, path: Path, text: str) -> None:
    """Write the page with its digest, atomically."""
    layout.write(path, with_digest(text).encode())


def with_digest(text: str) -> str:
    """The page with its last line, a comment in HTML and in Markdown."""
    text = text.rstrip("\n") + "\n"
    return f"{text}<!-- sha256:{hashlib.sha256(text.encode()).hexdigest()} of all above -->\n"


def says(layout: Layout, path: Path, text: str) -> bool:
    """Whether there is a page under the data root that holds this text."""
    try:
        return text.encode() in layout.storage.get(layout.relative(path))
    except FileNotFoundError:
        return False


def intact(data: bytes) -> bool:
    """Whether a page is unchanged. One from before pages had a digest is accepted as it is."""
    match = LAST.search(data)
    if match is None:
        return not REST.search(data[-120:])
    return hashlib.sha256(data[: match.start()]).hexdigest().encode() == match[1]
