"""Credentials in records of releases that kept the addresses of servers as they were written."""

from __future__ import annotations

import re
from base64 import b64decode
from collections.abc import Iterator

from cai_assets.lineage.verify.problem import Problem
from cai_assets.settings.address import HIDDEN, shown, with_credentials
from cai_assets.store.records import Record

BASIC = re.compile(r"\bBasic ([A-Za-z0-9+/]{6,}={0,2})")
TODO = ("change that credential at the server, since whoever has a copy of this file has it; from now on none is "
        "written. Everything else about the file is as it should be")


def credentials(path: str, record: Record) -> Iterator[Problem]:
    """Whether a record, in the file at ``path``, holds the login or the query of a server's address."""
    addresses = set(with_credentials(record.settings))
    texts = [*with_credentials(record.details), *map(str, record.details.get("errors", {}))]
    addresses |= {text for text in map(shown, texts) if f"{HIDDEN}@" in text}
    if addresses:
        yield Problem("record", path, f"holds a credential in plain text: {min(addresses)} ({record.ref.id})", TODO)
    elif any(_is_login(found) for text in texts for found in BASIC.findall(text)):
        yield Problem("record", path, f"holds a login in Base64, among its errors ({record.ref.id})", TODO)


def _is_login(text: str) -> bool:
    decoded = b64decode(text + "=" * (-len(text) % 4)).decode(errors="replace")
    return ":" in decoded and decoded.isprintable()
