"""One OpenAI-compatible server: bytes go out, bytes come back, and each way to fail has one of three meanings.

``Unusable``: try again. ``Away``: this server cannot serve anybody now. ``Refused``: it will not serve this row.
A reply has a deadline and a limit of size; a redirect to another host is not followed, because it would take prompts
and key there. No message holds a credential.
"""

from __future__ import annotations

import math
from base64 import b64encode
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from urllib.parse import urljoin, urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp

from cai_assets.engines.served.mask import Mask
from cai_assets.engines.served.reply import EXCERPT, READ, Unusable
from cai_assets.errors import CaiError
from cai_assets.settings.address import ServerAddress

LONGEST_RETRY_AFTER = 60.0
LONGEST_CONNECT = 15.0  # seconds; a host that drops packets would otherwise take the whole deadline of a reply
KEPT_ALIVE = 4.0  # seconds: less than the 5 after which uvicorn, which serves vLLM, closes a silent connection
LARGEST_REPLY = 32 * 2**20
"""Bytes. The longest answers, 128 k tokens that JSON escapes to 30 bytes each, are below 4 MiB."""
REDIRECTS = 3


class Away(CaiError):
    """A server that cannot serve anybody now. ``refused``: it said so itself, by 401, 403 or 404."""

    def __init__(self, reason: str, *, refused: bool = False) -> None:
        super().__init__(reason)
        self.refused = refused


class Refused(CaiError, ValueError):
    """A request that this server does not take."""


class Client:
    """A session with one server. ``key``: the API key, empty for none; a login in the address goes before it."""

    def __init__(self, address: ServerAddress, key: str, timeout: float, connections: int) -> None:
        login = ":".join(address.login or ())
        proxy = _proxy(address)
        self.mask = Mask(key, *address.secrets, *(ServerAddress(proxy).secrets if proxy else ()))
        self.address, self._timeout = address, timeout
        authorization = f"Basic {b64encode(login.encode()).decode()}" if address.login else f"Bearer {key or 'none'}"
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=connections, keepalive_timeout=KEPT_ALIVE), proxy=proxy,
            timeout=aiohttp.ClientTimeout(total=timeout, sock_connect=LONGEST_CONNECT), auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(), skip_auto_headers=["User-Agent"],
            headers={"Authorization": authorization, "Content-Type": "application/json", "Accept": "application/json",
                     "Accept-Encoding": "identity"})  # a small compressed reply can be a large one

    async def post(self, path: str, body: bytes) -> bytes:
        """The body of a reply of status 2xx. Raise Unusable, Away, or Refused."""
        try:
            return await self._post(self.address.endpoint(path), body)
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as e:
            raise Away(self._said(e)) from None
        except TimeoutError:
            raise Unusable(f"no complete reply within {self._timeout:g} s", gone=True, busy=True) from None
        except (aiohttp.ClientError, OSError) as e:
            raise Unusable(self._said(e), gone=True) from None

    async def close(self) -> None:
        await self._session.close()

    async def _post(self, url: str, body: bytes) -> bytes:
        for _ in range(REDIRECTS + 1):
            async with self._session.post(url, data=body, allow_redirects=False) as reply:
                if 300 <= reply.status < 400:
                    url = _followed(url, reply)
                    continue
                text = await _whole(reply)
                if 200 <= reply.status < 300:
                    return text
                raise self._refusal(reply, text)
        raise Away(f"more than {REDIRECTS} redirects")

    def _refusal(self, reply: aiohttp.ClientResponse, text: bytes) -> Exception:
        status = reply.status
        reason = f"status {status}: {' '.join(self.mask(text[:READ].decode(errors='replace')).split())[:EXCERPT]}"
        if status in (401, 403, 404):
            return Away(reason, refused=True)
        if status in (408, 409, 425, 429) or status >= 500:
            return Unusable(reason, wait=retry_after(reply.headers.get("retry-after")), gone=status in (502, 503, 504),
                            busy=status in (408, 429, 503, 504), full=status == 429)
        return Refused(reason)

    def _said(self, error: Exception) -> str:
        return self.mask(f"{type(error).__name__}: {error}")[:2 * EXCERPT]


async def _whole(reply: aiohttp.ClientResponse) -> bytes:
    if reply.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise Unusable("the reply is compressed, although that was not accepted")
    parts, size = [], 0
    async for part in reply.content.iter_any():
        parts.append(part)
        if (size := size + len(part)) > LARGEST_REPLY:
            raise Unusable(f"the reply is longer than {LARGEST_REPLY} bytes")
    return b"".join(parts)


def _followed(url: str, reply: aiohttp.ClientResponse) -> str:
    """Where a redirect leads on the same server. Raise Away for any other."""
    target = urljoin(url, reply.headers.get("Location", ""))
    here, there = urlsplit(url), urlsplit(target)
    if reply.status in (307, 308) and (here.scheme, here.netloc) == (there.scheme, there.netloc):
        return target
    host = there.netloc.rpartition("@")[2]
    raise Away(f"status {reply.status}: redirects to {there.scheme}://{host}, and is not followed there; if that is "
               "the server, name its address in base_urls", refused=True)


def _proxy(address: ServerAddress) -> str | None:
    """The proxy that the environment names for a server."""
    parts = urlsplit(address.endpoint(""))
    return None if proxy_bypass(parts.hostname or "") else getproxies().get(parts.scheme)


def retry_after(header: str | None) -> float:
    """Seconds that a Retry-After header asks for, capped; 0 if it is missing or makes no sense."""
    if not header:
        return 0.0
    try:
        seconds = float(header)
    except ValueError:
        try:
            seconds = (parsedate_to_datetime(header) - datetime.now(UTC)).total_seconds()
        except (ValueError, TypeError):
            return 0.0
    return min(max(seconds, 0.0), LONGEST_RETRY_AFTER) if math.isfinite(seconds) else 0.0
