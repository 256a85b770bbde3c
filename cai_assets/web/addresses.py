"""The addresses under which the server is reached, as browsers write them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from cai_assets.errors import CaiError

LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
DEFAULT_PORTS = {"http": 80, "https": 443}


class AddressError(CaiError, ValueError):
    """A public address cannot be used. The message says which and what to write."""


@dataclass(frozen=True)
class Addresses:
    """``origins``: the origin ("http://localhost:3000") of each Host header ("localhost:3000") that is ours."""

    origins: Mapping[str, str]

    @classmethod
    def of(cls, port: int, public: Iterable[str] = ()) -> Addresses:
        """This machine's own names with our port, and the public addresses of a reverse proxy. Raise AddressError."""
        pairs = [_pair("http", name, port) for name in LOOPBACK]
        return cls(dict([*pairs, *map(_parsed, public)]))

    @property
    def first(self) -> str:
        return next(iter(self.origins.values()))


def _parsed(address: str) -> tuple[str, str]:
    try:
        parts = urlsplit(address)
        scheme, name, port = parts.scheme, parts.hostname, parts.port
    except ValueError:
        scheme, name, port, parts = "", None, None, urlsplit("")
    if scheme not in DEFAULT_PORTS or not name or "@" in parts.netloc or parts.path.strip("/") or parts.query:
        raise AddressError(f"{address!r} is not the address of a server; write --public-url as in https://cai.example.org")
    return _pair(scheme, f"[{name}]" if ":" in name else name, port or DEFAULT_PORTS[scheme])


def _pair(scheme: str, name: str, port: int) -> tuple[str, str]:
    """Host header and origin; neither names a scheme's default port."""
    host = name if port == DEFAULT_PORTS[scheme] else f"{name}:{port}"
    return host, f"{scheme}://{host}"
