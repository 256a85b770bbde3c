"""The ASGI application in front of Dagster's: refuses what is not its own user's, and adds headers to every answer."""

from __future__ import annotations

import logging
from functools import lru_cache

from starlette.datastructures import MutableHeaders
from starlette.requests import HTTPConnection
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cai_assets.web.addresses import Addresses
from cai_assets.web.password import Password
from cai_assets.web.rules import Refusal, refusals

# What pages may load: only what comes from here (not every browser counts WebSockets in). Dagster's own policy, which
# has a nonce for its scripts, holds as well. GraphiQL's page has a script in it, and both draw with inline styles.
POLICY = "; ".join([
    "default-src 'self'", "script-src 'self' 'unsafe-inline'", "style-src 'self' 'unsafe-inline'",
    "img-src 'self' data: blob:", "font-src 'self' data:", "worker-src 'self' blob:", "form-action 'self'",
    "base-uri 'none'", "object-src 'none'", "frame-ancestors 'none'", "connect-src 'self'",
])
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
ASK = {"WWW-Authenticate": 'Basic realm="cai ui", charset="UTF-8"'}
ANSWERS = {"http.response.start", "websocket.http.response.start"}

_log = logging.getLogger(__name__)


class Guard:
    """Passes on requests and WebSockets that come from the user's own pages, or from no page; refuses all others."""

    def __init__(self, app: ASGIApp, own: Addresses, password: Password | None = None) -> None:
        self._app, self._own, self._password = app, own, password
        named = (origin for origin in own.origins.values() if "[" not in origin)  # a policy cannot name an IPv6 address
        self._policy = " ".join([POLICY, *(origin.replace("http", "ws", 1) for origin in named)])

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] in {"http", "websocket"}:
            request = HTTPConnection(scope)
            refusal = next(refusals(request, self._own), None) or self._locked(request)
            app = _answer(refusal) if refusal else self._app
            await app(scope, receive, self._with_headers(send))
        else:
            await self._app(scope, receive, send)

    def _locked(self, request: HTTPConnection) -> Refusal | None:
        lock = self._password
        if lock is None or lock.is_given(request):
            return None
        what = "the password is wrong" if "authorization" in request.headers else "this server wants a password"
        return Refusal(401, f"{what}; give the one that 'cai ui' was started with, under any user name")

    def _with_headers(self, send: Send) -> Send:
        async def sending(message: Message) -> None:
            if message["type"] in ANSWERS:
                headers = MutableHeaders(scope=message)
                headers.update(HEADERS)
                headers.append("Content-Security-Policy", self._policy)
            await send(message)

        return sending


def _answer(refusal: Refusal) -> ASGIApp:
    _say_once(refusal.line)
    return PlainTextResponse(f"cai ui: {refusal.line}\n", refusal.status, ASK if refusal.status == 401 else None)


@lru_cache(maxsize=1000)  # a page that tries again and again does not fill the log
def _say_once(line: str) -> None:
    _log.warning("cai ui refused a request: %s", line)
