"""What the guard refuses, a function each: the reason and what to do, or None.

A page of another site can make a browser send requests to this machine. It cannot choose their Host, Origin and
Sec-Fetch-* headers, nor send JSON without asking first, which is never granted. A client that is no browser sends what
it likes, but it already runs on this machine.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from starlette.requests import HTTPConnection

from cai_assets.web.addresses import Addresses

READING = {"GET", "HEAD"}
JSON = "application/json"


@dataclass(frozen=True)
class Refusal:
    """An HTTP status, and one line that says what is wrong and what to do."""

    status: int
    line: str


Rule = Callable[[HTTPConnection, Addresses], Refusal | None]


def foreign_host(request: HTTPConnection, own: Addresses) -> Refusal | None:
    """A name that a page has pointed at this machine (DNS rebinding), or none."""
    host = _host(request)
    if host in own.origins:
        return None
    return Refusal(403, f"the host {_quoted(host)} is not this server's; open {own.first}, or start 'cai ui' with "
                        "--public-url if a reverse proxy serves it under that name")


def foreign_origin(request: HTTPConnection, own: Addresses) -> Refusal | None:
    """A request or WebSocket that a page of another origin sends. A client without an origin is no page."""
    expected = own.origins[_host(request)]
    foreign = [origin for origin in request.headers.getlist("origin") if origin != expected]
    return Refusal(403, f"the origin {_quoted(foreign[0])} is not {expected}; only this server's own pages may send "
                        "requests to it") if foreign else None


def foreign_site(request: HTTPConnection, own: Addresses) -> Refusal | None:
    """What a page of another site loads: an image, a frame, a script. To follow a link to a page of ours is fine."""
    site = request.headers.get("sec-fetch-site", "none")
    if site in {"same-origin", "none"} or _follows_a_link(request):
        return None
    return Refusal(403, f"a page of another site ({_quoted(site)}) asked for this; open {own.first} yourself")


def unsafe_method(request: HTTPConnection, own: Addresses) -> Refusal | None:
    """Anything but reading and POST."""
    if request["type"] == "websocket" or request["method"] in {*READING, "POST"}:
        return None
    return Refusal(405, f"the method {_quoted(request['method'])} is not used here; read with GET, change with POST")


def not_json(request: HTTPConnection, own: Addresses) -> Refusal | None:
    """A POST that a form, or a page without leave, could send."""
    if request["type"] == "websocket" or request["method"] in READING:
        return None
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    return None if kind == JSON else Refusal(415, f"a POST of {_quoted(kind)} is refused; send it as {JSON}")


def query_by_get(request: HTTPConnection, own: Addresses) -> Refusal | None:
    """GraphQL in an address, which fits into a link or an image. Whoever accepts HTML gets Dagster's GraphiQL page."""
    if request["type"] == "websocket" or request["method"] not in READING or not _is_graphql(request):
        return None
    page = "text/html" in request.headers.get("accept", "")
    return None if page else Refusal(405, f"GraphQL by GET is refused; send it by POST as {JSON}")


RULES: tuple[Rule, ...] = (foreign_host, foreign_origin, foreign_site, unsafe_method, not_json, query_by_get)


def refusals(request: HTTPConnection, own: Addresses) -> Iterator[Refusal]:
    """Why a request is refused, the first reason first; nothing if it is not."""
    return (refusal for rule in RULES if (refusal := rule(request, own)))


def _host(request: HTTPConnection) -> str:
    return ", ".join(request.headers.getlist("host")).lower()


def _follows_a_link(request: HTTPConnection) -> bool:
    fetch = request.headers.get("sec-fetch-mode"), request.headers.get("sec-fetch-dest")
    return request["type"] == "http" and request["method"] in READING and fetch == ("navigate", "document")


def _is_graphql(request: HTTPConnection) -> bool:
    return str(request["path"]).rstrip("/").endswith("/graphql")


def _quoted(text: str) -> str:
    """What others sent, safe to print: short, on one line."""
    return ascii(text[:80])
