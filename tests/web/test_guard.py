"""The guard refuses what is not its own user's, before Dagster sees it, in one line that says what to do."""

from __future__ import annotations

import base64
import logging
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route, WebSocketRoute
from starlette.testclient import TestClient, WebSocketDenialResponse
from starlette.websockets import WebSocket

from cai_assets.web import guard
from cai_assets.web.addresses import AddressError, Addresses
from cai_assets.web.guard import HEADERS, Guard
from cai_assets.web.password import Password

pytestmark = pytest.mark.fault("hostile requests against the guard")

HERE = "http://127.0.0.1:3000"
JSON = {"content-type": "application/json"}
LINK = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", "sec-fetch-dest": "document"}
METHODS = ["GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"]


class Behind:
    """Where Dagster is otherwise: counts what reaches it."""

    def __init__(self) -> None:
        self.reached: list[str] = []
        every = Route("/{path:path}", self.http, methods=METHODS)
        self.app = Starlette(routes=[WebSocketRoute("/graphql", self.ws), every])

    async def http(self, request: Request) -> PlainTextResponse:
        self.reached.append(f"{request.method} {request.url.path}")
        return PlainTextResponse("dagster", headers={"Content-Security-Policy": "base-uri 'none'"})

    async def ws(self, socket: WebSocket) -> None:
        self.reached.append("WS")
        await socket.accept(subprotocol="graphql-ws")
        await socket.close()


def client(behind: Behind, *, public: tuple[str, ...] = (), password: Password | None = None, at: str = HERE,
           port: int = 3000) -> TestClient:
    return TestClient(Guard(behind.app, Addresses.of(port, public), password), base_url=at)


@pytest.fixture
def behind() -> Behind:
    guard._say_once.cache_clear()
    return Behind()


@pytest.mark.parametrize(("method", "path", "headers"), [
    ("GET", "/", {}),
    ("HEAD", "/runs", {}),
    ("GET", "/assets/prompts", {"sec-fetch-site": "none"}),
    ("GET", "/runs", LINK),
    ("GET", "/graphql", {"accept": "text/html,*/*"}),
    ("POST", "/graphql", JSON),
    ("POST", "/graphql", {"content-type": "Application/JSON; charset=utf-8"}),
    ("POST", "/graphql", {**JSON, "origin": HERE, "sec-fetch-site": "same-origin"}),
    ("POST", "/report_asset_materialization/prompts", JSON),
])
def test_what_the_users_own_pages_and_tools_send_passes(
    behind: Behind, method: str, path: str, headers: dict[str, str]
) -> None:
    assert client(behind).request(method, path, headers=headers).status_code == 200
    assert behind.reached == [f"{method} {path}"]


@pytest.mark.parametrize(("method", "path", "headers", "status", "said"), [
    ("GET", "/", {"host": "evil.example"}, 403, "'evil.example' is not this server's"),
    ("GET", "/", {"host": "127.0.0.1"}, 403, "open http://127.0.0.1:3000"),
    ("GET", "/", {"host": "127.0.0.1:3001"}, 403, "--public-url"),
    ("GET", "/", {"host": "127.0.0.1.evil.example:3000"}, 403, "is not this server's"),
    ("GET", "/", {"host": "127.0.0.1:3000@evil.example"}, 403, "is not this server's"),
    ("GET", "/", {"host": ""}, 403, "is not this server's"),
    ("POST", "/graphql", {**JSON, "origin": "http://evil.example"}, 403, "only this server's own pages"),
    ("POST", "/graphql", {**JSON, "origin": "null"}, 403, "'null' is not http://127.0.0.1:3000"),
    ("POST", "/graphql", {**JSON, "origin": "http://127.0.0.1:8000"}, 403, "'http://127.0.0.1:8000' is not"),
    ("POST", "/graphql", {**JSON, "origin": "http://localhost:3000"}, 403, "'http://localhost:3000' is not"),
    ("POST", "/graphql", {**JSON, "origin": "https://127.0.0.1:3000"}, 403, "is not http://127.0.0.1:3000"),
    ("GET", "/", {"origin": "http://evil.example"}, 403, "origin"),
    ("POST", "/graphql", {**JSON, "sec-fetch-site": "cross-site"}, 403, "another site"),
    ("POST", "/graphql", {**JSON, **LINK}, 403, "another site"),
    ("GET", "/logs/a/b/out", {"sec-fetch-site": "same-site"}, 403, "another site ('same-site')"),
    ("GET", "/", {**LINK, "sec-fetch-dest": "iframe"}, 403, "another site"),
    ("GET", "/graphql?query=mutation", {"sec-fetch-site": "cross-site", "accept": "image/*"}, 403, "another site"),
    ("POST", "/graphql", {"content-type": "text/plain"}, 415, "send it as application/json"),
    ("POST", "/graphql", {"content-type": "text/plain; application/json"}, 415, "'text/plain'"),
    ("POST", "/graphql", {"content-type": "application/graphql"}, 415, "'application/graphql'"),
    ("POST", "/graphql", {"content-type": "application/x-www-form-urlencoded"}, 415, "a POST of"),
    ("POST", "/graphql", {"content-type": "multipart/form-data; boundary=x"}, 415, "a POST of"),
    ("POST", "/graphql?query=mutation", {}, 415, "a POST of ''"),
    ("POST", "/report_asset_materialization/prompts", {}, 415, "application/json"),
    ("POST", "/report_asset_check/prompts", {"content-type": "text/plain"}, 415, "application/json"),
    ("PUT", "/graphql", JSON, 405, "'PUT' is not used here"),
    ("DELETE", "/", JSON, 405, "'DELETE'"),
    ("OPTIONS", "/graphql", {"origin": HERE}, 405, "'OPTIONS'"),
    ("GET", "/graphql?query={version}", {}, 405, "GraphQL by GET is refused"),
    ("GET", "/graphql?query={version}", {"accept": "application/json"}, 405, "by POST"),
    ("GET", "/graphql/?query={version}", {"accept": "*/*"}, 405, "by POST"),
    ("HEAD", "/graphql?query={version}", {}, 405, ""),
])
def test_what_others_send_is_refused_in_one_line(
    behind: Behind, method: str, path: str, headers: dict[str, str], status: int, said: str
) -> None:
    answer = client(behind).request(method, path, headers={"accept": "*/*", **headers})
    assert (answer.status_code, behind.reached) == (status, [])
    assert answer.headers["content-type"].startswith("text/plain")
    assert said in answer.text
    assert method == "HEAD" or (answer.text.startswith("cai ui: ") and answer.text.count("\n") == 1)


def test_two_hosts_or_a_second_foreign_origin_are_refused(behind: Behind) -> None:
    sent = client(behind)
    twice = [("host", "127.0.0.1:3000"), ("host", "evil.example")]
    assert sent.get("/", headers=twice).status_code == 403
    origins = [*JSON.items(), ("origin", HERE), ("origin", "http://evil.example")]
    assert sent.post("/graphql", headers=origins).status_code == 403
    assert behind.reached == []


@pytest.mark.parametrize(("headers", "status"), [
    ({"origin": "http://evil.example"}, 403), ({"origin": "http://127.0.0.1:8000"}, 403), ({"origin": "null"}, 403),
    ({"host": "evil.example:3000", "origin": "http://evil.example:3000"}, 403), ({"sec-fetch-site": "same-site"}, 403),
    ({**LINK, "sec-fetch-dest": "websocket"}, 403),
])
def test_a_websocket_of_another_page_is_not_opened(behind: Behind, headers: dict[str, str], status: int) -> None:
    with pytest.raises(WebSocketDenialResponse) as refused, client(behind).websocket_connect(
            "/graphql", headers={"host": "127.0.0.1:3000", **headers}):
        pass
    assert (refused.value.status_code, behind.reached) == (status, [])
    assert refused.value.text.startswith("cai ui: ")


@pytest.mark.parametrize("headers", [{"origin": HERE}, {}])
def test_a_websocket_of_our_own_page_or_of_no_page_is(behind: Behind, headers: dict[str, str]) -> None:
    with client(behind).websocket_connect("/graphql", headers={"host": "127.0.0.1:3000", **headers}):
        assert behind.reached == ["WS"]


@pytest.mark.parametrize("path", ["/", "/graphql"])
def test_every_answer_carries_the_headers_and_keeps_dagsters_policy(behind: Behind, path: str) -> None:
    answer = client(behind).get(path, headers={"accept": "*/*"})
    assert {name: answer.headers[name] for name in HEADERS} == HEADERS
    policies = answer.headers.get_list("content-security-policy")
    assert "frame-ancestors 'none'" in policies[-1]
    assert "default-src 'self'" in policies[-1]
    assert (path == "/graphql") or policies[0] == "base-uri 'none'"


def test_a_public_address_is_let_in_under_its_own_name_and_origin_alone(behind: Behind) -> None:
    sent = client(behind, public=("https://cai.example.org",), at="https://cai.example.org")
    assert sent.get("/").status_code == 200
    assert sent.post("/graphql", headers={**JSON, "origin": "https://cai.example.org"}).status_code == 200
    assert sent.post("/graphql", headers={**JSON, "origin": "http://cai.example.org"}).status_code == 403
    assert sent.post("/graphql", headers={**JSON, "origin": HERE}).status_code == 403
    assert sent.get("/", headers={"host": "other.example.org"}).status_code == 403
    assert client(behind, public=("https://cai.example.org",)).get("/").status_code == 200


@pytest.mark.parametrize("address", [
    "cai.example.org", "ftp://x", "https://", "https://user:pw@x", "https://x/path", "https://x?q", "https://x:port"])
def test_a_public_address_that_is_none_is_named(address: str) -> None:
    with pytest.raises(AddressError, match="--public-url"):
        Addresses.of(3000, [address])


def test_a_default_port_is_left_out_as_browsers_do(behind: Behind) -> None:
    assert client(behind, port=80, at="http://localhost").get("/").status_code == 200
    assert client(behind, public=("https://x.example:443",), at="https://x.example").get("/").status_code == 200
    assert Addresses.of(3000, ["http://[fd00::1]:8080"]).origins["[fd00::1]:8080"] == "http://[fd00::1]:8080"


def test_a_refusal_is_logged_once_on_one_line(behind: Behind, caplog: pytest.LogCaptureFixture) -> None:
    sent = client(behind)
    for _ in range(3):
        sent.post("/graphql", headers={**JSON, "origin": "http://evil.example/\x1b[2J" + "x" * 200})
    sent.post("/graphql", headers=[(b"content-type", b"text/\xff plain")])
    assert [r.levelno for r in caplog.records] == [logging.WARNING] * 2
    assert all(len(r.getMessage()) < 250 and r.getMessage().isprintable() for r in caplog.records)


def basic(given: str) -> dict[str, str]:
    return {"authorization": "Basic " + base64.b64encode(f"anyone:{given}".encode()).decode()}


@pytest.fixture
def locked(behind: Behind) -> Any:
    return client(behind, password=Password("s3cret:ß"))


@pytest.mark.parametrize("headers", [
    {}, basic("wrong"), basic(""), basic("s3cret:"), {"authorization": "Basic ???"}, {"authorization": "Basic"},
    {"authorization": basic("s3cret:ß")["authorization"].replace("Basic", "Bearer")}, {"cookie": "password=s3cret:"},
])
def test_without_the_password_nothing_is_let_in(
    behind: Behind, locked: TestClient, caplog: pytest.LogCaptureFixture, headers: dict[str, str]
) -> None:
    answer = locked.get("/", headers=headers)
    assert (answer.status_code, behind.reached) == (401, [])
    assert answer.headers["www-authenticate"].startswith("Basic ")
    assert "set-cookie" not in answer.headers
    with pytest.raises(WebSocketDenialResponse), locked.websocket_connect(
            "/graphql", headers={"host": "127.0.0.1:3000", **headers}):
        pass
    assert behind.reached == []
    assert "s3cret" not in caplog.text


def test_with_the_password_everything_but_what_others_send_is_let_in(behind: Behind, locked: TestClient) -> None:
    given = basic("s3cret:ß")
    answer = locked.get("/", headers=given)
    assert (answer.status_code, "set-cookie" in answer.headers) == (200, False)  # other ports would get a cookie, too
    with locked.websocket_connect("/graphql", headers={"host": "127.0.0.1:3000", "origin": HERE, **given}):
        pass
    assert locked.post("/graphql", headers={**JSON, **given}).status_code == 200
    assert behind.reached == ["GET /", "WS", "POST /graphql"]
    assert locked.post("/graphql", headers={**JSON, **given, "origin": "http://evil.example"}).status_code == 403
    assert locked.get("/").status_code == 401
