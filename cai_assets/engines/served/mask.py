"""Credentials in what a server sends back: hidden in messages, and no part of any answer.

A server may echo what it was sent: as it was, quoted for a URL, JSON or HTML, or in Base64 (``Authorization: Basic``).
"""

from __future__ import annotations

import html
import json
from base64 import b64encode
from collections.abc import Iterator
from urllib.parse import quote, quote_plus

from cai_assets.settings.address import HIDDEN, shown

SHORTEST = 5
"""Characters of a credential that is looked for: a shorter one hides nothing, and would blot out ordinary words."""
SHORTEST_IN_ANSWERS = 8
"""And in answers, which may hold a word such as EMPTY, vLLM's usual key, by themselves."""


class Mask:
    """Finds some credentials in texts."""

    def __init__(self, *secrets: str) -> None:
        self._forms = _forms(secrets, SHORTEST)
        self._telling = _forms(secrets, SHORTEST_IN_ANSWERS)

    def __call__(self, text: str) -> str:
        """``text`` with every credential hidden, and those of any URL in it."""
        for form in self._forms:
            text = text.replace(form, HIDDEN)
        return shown(text)

    def told_in(self, answer: str) -> bool:
        """Whether an answer repeats a credential."""
        return any(form in answer for form in self._telling)


def _forms(secrets: tuple[str, ...], shortest: int) -> tuple[str, ...]:
    """Every form of the credentials that are long enough, the longest first, so that none leaves a part of another."""
    forms = {form for secret in secrets if len(secret) >= shortest for form in _written(secret)}
    return tuple(sorted(forms, key=len, reverse=True))


def _written(secret: str) -> Iterator[str]:
    yield from (secret, quote(secret), quote(secret, safe=""), quote_plus(secret), html.escape(secret))
    yield from (json.dumps(secret)[1:-1], json.dumps(secret, ensure_ascii=False)[1:-1], repr(secret)[1:-1])
    data = secret.encode()
    yield from (data.hex(), data.hex().upper())
    for text in (b64encode(data).decode(), *_inside_base64(data)):
        url_safe = text.translate(str.maketrans("+/", "-_"))
        yield from (text, url_safe, quote(text, safe=""))


def _inside_base64(data: bytes) -> Iterator[str]:
    """What is the same in Base64 whatever stands before and after: three ways for its place among three bytes."""
    for before in range(3):
        coded = b64encode(bytes(before) + data).decode().rstrip("=")
        whole = coded[(0, 2, 3)[before]:(len(data) + before) * 8 // 6]
        if len(whole) >= SHORTEST:
            yield whole
