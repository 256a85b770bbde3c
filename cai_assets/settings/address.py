"""An address whose credentials are used and never shown.

``str``, ``repr`` and JSON of an address leave out user and password, query and fragment, so that nothing made of
settings (records, lineage, exports, plans, errors) can hold them. Only what opens a connection asks for ``endpoint``
and ``login``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from pydantic_core import CoreSchema, PydanticCustomError, core_schema

HIDDEN = "***"
URL = re.compile(r"\b[A-Za-z][\w+.-]*://[^\s\"'<>]+")


class ServerAddress:
    """The base URL of a server, such as ``http://host:8000/v1``. Raise ValueError for anything else."""

    __slots__ = ("_parts", "_text")

    def __init__(self, text: str) -> None:
        self._text = text
        self._parts = _checked(text)

    def __str__(self) -> str:
        return shown(self._text)

    def __repr__(self) -> str:
        return f"ServerAddress({str(self)!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ServerAddress) and self._text == other._text

    def __hash__(self) -> int:
        return hash(self._text)

    @property
    def login(self) -> tuple[str, str] | None:
        """User and password, if the address has any."""
        user, at, _ = self._parts.netloc.rpartition("@")
        name, _, password = user.partition(":")
        return (unquote(name), unquote(password)) if at else None

    @property
    def secrets(self) -> tuple[str, ...]:
        """Each credential in it: what must not appear in anything that is kept or shown."""
        login = self.login or ()
        values = [value for _, value in parse_qsl(self._parts.query)] or [self._parts.query]
        return tuple(filter(None, (*login, ":".join(login), *values, self._parts.fragment)))

    def endpoint(self, path: str) -> str:
        """The URL of a path below it, with the query and without the login."""
        host = self._parts.netloc.rpartition("@")[2]
        return self._parts._replace(netloc=host, path=f"{self._parts.path.rstrip('/')}/{path}", fragment="").geturl()

    @classmethod
    def __get_pydantic_core_schema__(cls, _: Any, __: Any) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(
            _from_setting, serialization=core_schema.plain_serializer_function_ser_schema(str))

    @classmethod
    def __get_pydantic_json_schema__(cls, _: Any, __: Any) -> dict[str, Any]:
        return {"type": "string", "format": "uri"}


def shown(text: str) -> str:
    """``text`` with the credentials of every URL in it hidden."""
    return URL.sub(lambda found: _hide(found.group()), text)


def with_credentials(value: Any) -> Iterator[str]:
    """Every text in nested settings that holds a URL with credentials, as it may be shown."""
    if isinstance(value, str) and (clean := shown(value)) != value:
        yield clean
    elif isinstance(value, Mapping):
        yield from (text for inner in value.values() for text in with_credentials(inner))
    elif isinstance(value, list | tuple):
        yield from (text for inner in value for text in with_credentials(inner))


def _hide(url: str) -> str:
    scheme, _, rest = url.partition("://")
    place, query, _ = rest.partition("?")
    place, fragment, _ = place.partition("#")
    login, at, place = place.rpartition("@")  # not only before the first slash, which a password may hold
    return (f"{scheme}://{HIDDEN if login else ''}{at}{place}"
            f"{query and f'?{HIDDEN}'}{fragment and f'#{HIDDEN}'}")


def _checked(text: str) -> SplitResult:
    try:
        parts = urlsplit(text)
        whole = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        whole = False
    if not whole or not text.isprintable() or " " in text:
        raise ValueError(f"{_nameable(text)!r} is not the address of a server, such as http://host:8000/v1")
    if HIDDEN in text:
        raise ValueError(f"{shown(text)!r} was printed without its credentials: write the address itself")
    return parts


def _nameable(text: str) -> str:
    """A text that is no address, without what might be a login in it."""
    return f"{HIDDEN}@{text.rpartition('@')[2]}".partition("?")[0] if "@" in text else text.partition("?")[0]


def _from_setting(value: Any) -> ServerAddress:
    if isinstance(value, ServerAddress):
        return value
    try:
        return ServerAddress(str(value))
    except ValueError as e:
        raise PydanticCustomError("server_address", "{why}", {"why": str(e)}) from None
