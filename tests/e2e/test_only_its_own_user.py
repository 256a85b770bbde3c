"""``cai ui`` answers its own user only: attacked live by a plain client and by pages in a real browser."""

from __future__ import annotations

import base64
import http.client
import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlencode, urlsplit

import pytest
from attacker import TRIES, Attacker, attacking
from server import Served, graphql, serving, wait_for

pytestmark = [pytest.mark.browser,
              pytest.mark.fault("hostile pages and clients against the running web server")]

RUNS = "{ runsOrError { ... on Runs { results { runId status } } } }"
STATUS = "query($id: ID!) { runOrError(runId: $id) { ... on Run { status } } }"
MADE = '{ assetOrError(assetKey: {path: ["prompts"]}) { ... on Asset { assetMaterializations { runId } } } }'
LAUNCH = """mutation($params: ExecutionParams!) { launchPipelineExecution(executionParams: $params) {
  __typename ... on LaunchRunSuccess { run { runId } } ... on UnauthorizedError { message } } }"""
JSON = {"Content-Type": "application/json"}


def launching(**overrides: Any) -> dict[str, Any]:
    """Variables of LAUNCH: materialize ``prompts`` with these settings."""
    return {"params": {
        "selector": {"repositoryLocationName": "live_location", "repositoryName": "__repository__",
                     "pipelineName": "__ASSET_JOB", "assetSelection": [{"path": ["prompts"]}]},
        "runConfigData": {"resources": {"project": {"config": {"overrides": overrides}}}}}}


class State:
    """What an attack could have changed: the runs there are, and who made ``prompts``."""

    def __init__(self, url: str) -> None:
        self.url, self.before = url, self._now(url)

    @staticmethod
    def _now(url: str) -> list[Any]:
        return [sorted(r["runId"] for r in graphql(url, RUNS)["runsOrError"]["results"]),
                len(graphql(url, MADE)["assetOrError"].get("assetMaterializations", []))]

    def unchanged(self) -> bool:
        return self._now(self.url) == self.before


@pytest.fixture
def state(served: Served) -> State:
    return State(served.url)


@pytest.fixture
def attacker() -> Iterator[Attacker]:
    with attacking() as other:
        yield other


@pytest.fixture
def page(chromium: Any) -> Iterator[Any]:
    opened = chromium.new_page()
    yield opened
    opened.close()


def sent(url: str, method: str, path: str, headers: dict[str, str], body: str = "") -> tuple[int, str]:
    connection = http.client.HTTPConnection(urlsplit(url).netloc)
    connection.request(method, path, body or None, headers)
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    return answer.status, text


UPGRADE = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13",
           "Sec-WebSocket-Key": "x3JJHMbDL1EzLkh9GBhXDw==", "Sec-WebSocket-Protocol": "graphql-ws"}
ASKED = json.dumps({"query": LAUNCH, "variables": launching()})
IN_URL = "/graphql?" + urlencode({"query": LAUNCH, "variables": json.dumps(launching())})


@pytest.mark.parametrize(("method", "path", "headers", "body", "status"), [
    ("GET", IN_URL, {}, "", 405),
    ("GET", IN_URL, {"Accept": "application/json"}, "", 405),
    ("HEAD", IN_URL, {}, "", 405),
    ("POST", IN_URL, {}, "", 415),
    ("POST", IN_URL, {"Content-Type": "text/plain"}, "x", 415),
    ("POST", IN_URL, {"Content-Type": "application/x-www-form-urlencoded"}, "x=1", 415),
    ("POST", "/graphql", {"Content-Type": "application/graphql"}, LAUNCH, 415),
    ("POST", "/graphql", {"Content-Type": "text/plain; application/json"}, ASKED, 415),
    ("POST", "/graphql", {**JSON, "Host": "evil.example"}, ASKED, 403),
    ("POST", "/graphql", {**JSON, "Origin": "http://evil.example"}, ASKED, 403),
    ("POST", "/graphql", {**JSON, "Origin": "null"}, ASKED, 403),
    ("POST", "/graphql", {**JSON, "Sec-Fetch-Site": "same-site"}, ASKED, 403),
    ("POST", "//graphql", {"Content-Type": "text/plain"}, ASKED, 415),
    ("PUT", "/graphql", JSON, ASKED, 405),
    ("GET", "/", {"Host": "evil.example"}, "", 403),
    ("GET", "/graphql", {**UPGRADE, "Origin": "http://evil.example"}, "", 403),
    ("GET", "/graphql", {**UPGRADE, "Host": "evil.example"}, "", 403),
    ("POST", "/report_asset_materialization/prompts", {}, "", 415),
    ("POST", "/report_asset_materialization/prompts", {**JSON, "Origin": "http://evil.example"}, "{}", 403),
    ("POST", "/report_asset_observation/prompts", {"Content-Type": "text/plain"}, "{}", 415),
    ("POST", "/report_asset_check/prompts?check_name=x&passed=true", {}, "", 415),
])
def test_a_plain_client_that_asks_otherwise_is_refused(
    served: Served, state: State, method: str, path: str, headers: dict[str, str], body: str, status: int
) -> None:
    answered, text = sent(served.url, method, path, headers, body)
    assert (answered, text.count("\n")) == (status, 0 if method == "HEAD" else 1)
    assert state.unchanged()


def test_a_refusal_is_in_the_servers_log_once(served: Served) -> None:
    for _ in range(3):
        assert sent(served.url, "GET", "/", {"Host": "once.example"})[0] == 403
    assert (served.root / "server.log").read_text().count("the host 'once.example' is not this server's") == 1


def test_a_page_on_another_port_of_this_machine_starts_nothing(
    served: Served, state: State, attacker: Attacker, page: Any
) -> None:
    page.goto(f"http://127.0.0.1:{attacker.port}/")
    told = page.evaluate(TRIES, {"to": served.url, "query": LAUNCH, "variables": launching()})
    assert told["socket"] == told["JSON"] == told["report as JSON"] == "failed"
    assert told["image"] == told["script"] == "failed"
    assert not any("Dagster" in frame.content() for frame in page.frames)
    assert state.unchanged()


@pytest.mark.parametrize("name", ["localhost", "evil.example"])
def test_a_page_under_another_name_starts_nothing(
    served: Served, state: State, attacker: Attacker, page: Any, name: str
) -> None:
    page.goto(f"http://{name}:{attacker.port}/")
    told = page.evaluate(TRIES, {"to": served.url, "query": LAUNCH, "variables": launching()})
    assert told["socket"] == told["JSON"] == "failed"
    assert state.unchanged()


def test_a_name_that_is_rebound_to_this_machine_reads_and_starts_nothing(
    served: Served, state: State, page: Any
) -> None:
    """The page is of the same origin as the server, as the browser sees it: it may read every answer."""
    there = served.url.replace("127.0.0.1", "evil.example")
    page.route(f"{there}/cats", lambda route: route.fulfill(body="<body>", content_type="text/html"))
    page.goto(f"{there}/cats")
    told = page.evaluate(TRIES, {"to": there, "query": LAUNCH, "variables": launching()})
    assert told["socket"] == "failed"
    assert (told["JSON"], told["report as JSON"], told["GraphQL"]) == ("403", "403", "403")
    assert page.evaluate("fetch('/runs').then(r => r.text())").startswith("cai ui: the host 'evil.example")
    assert state.unchanged()


def test_a_link_may_be_followed_and_a_mutation_in_it_does_not_run(
    served: Served, state: State, attacker: Attacker, page: Any
) -> None:
    page.goto(f"http://127.0.0.1:{attacker.port}/")
    page.evaluate("to => { location = to }", served.url + IN_URL)
    page.wait_for_url("**/graphql?**")
    page.get_by_text("GraphiQL").first.wait_for(state="attached")
    page.goto(f"http://127.0.0.1:{attacker.port}/")
    page.evaluate("to => { location = to }", served.url + "/runs")
    page.get_by_text("Runs", exact=True).first.wait_for()
    assert state.unchanged()


def test_a_mutation_over_a_websocket_does_not_run(served: Served, state: State, page: Any) -> None:
    page.goto(served.url + "/runs")
    told = page.evaluate("""({asked}) => new Promise(done => {
      const s = new WebSocket(location.origin.replace('http', 'ws') + '/graphql', 'graphql-ws')
      s.onmessage = m => JSON.parse(m.data).type == 'connection_ack' || done(JSON.parse(m.data).type)
      s.onerror = () => done('refused')
      s.onopen = () => { s.send('{"type": "connection_init"}')
                         s.send(`{"type": "start", "id": "1", "payload": ${asked}}`) }
    })""", {"asked": ASKED})
    assert told == "error"
    assert state.unchanged()


def test_the_same_request_from_the_users_own_tools_runs(served: Served, state: State) -> None:
    """So that the refusals above are the guard's, and no mistake in what was sent."""
    started = graphql(served.url, LAUNCH, **launching())["launchPipelineExecution"]
    assert started["__typename"] == "LaunchRunSuccess"
    assert not state.unchanged()
    wait_for(lambda: status_of(served, started) == "SUCCESS", served.root)


def status_of(served: Served, started: Any) -> str:
    run: str = graphql(served.url, STATUS, id=started["run"]["runId"])["runOrError"]["status"]
    return run


def test_no_setting_of_a_run_reaches_a_secret_an_address_or_another_folder(
    served: Served, attacker: Attacker, page: Any
) -> None:
    """Were somebody to launch a run after all."""
    spy = {"source": "m", "base_urls": [f"http://127.0.0.1:{attacker.port}/v1"], "api_key_env": "DAGSTER_HOME"}
    refused = [({"models": {"generator": spy}}, "models.generator has base_urls or an api_key_env"),
               ({"prompts": {"paths": ["/etc/passwd"]}}, "prompts.paths.0 is an address, or lies")]
    elsewhere = launching(data_root=str(served.root / "elsewhere"))
    assert graphql(served.url, LAUNCH, **elsewhere)["launchPipelineExecution"]["__typename"] == (
        "RunConfigValidationInvalid"), "the launchpad has no such setting"
    runs = [graphql(served.url, LAUNCH, **launching(**o))["launchPipelineExecution"] for o, _ in refused]
    for started, (_, said) in zip(runs, refused, strict=True):
        wait_for(lambda started=started: status_of(served, started) == "FAILURE", served.root)
        page.goto(f"{served.url}/runs/{started['run']['runId']}")
        page.get_by_text(f"run config: {said}").first.wait_for()
    assert attacker.received == []
    assert not (served.root / "elsewhere").exists()


def basic(password: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"me:{password}".encode()).decode()}


def test_with_a_password_and_read_only(chromium: Any, tmp_path_factory: pytest.TempPathFactory) -> None:
    root = tmp_path_factory.mktemp("locked")
    environment = {"CAI_UI_PASSWORD": "s3cret: pass", "CAI_DATA_ROOT": str(root / "data")}
    with serving(root, environment, module="live_location", options=("--read-only",)) as url:
        for headers in ({}, basic("wrong"), basic("")):
            assert sent(url, "GET", "/runs", headers)[0] == 401
            assert sent(url, "POST", "/graphql", {**JSON, **headers}, ASKED)[0] == 401
            assert sent(url, "GET", "/graphql", {**UPGRADE, **headers})[0] == 401
        let_in = basic("s3cret: pass")
        assert sent(url, "POST", "/graphql", {**JSON, **let_in, "Origin": "http://evil.example"}, ASKED)[0] == 403
        answered, text = sent(url, "POST", "/graphql", {**JSON, **let_in}, ASKED)
        assert answered == 200
        assert json.loads(text)["data"]["launchPipelineExecution"]["__typename"] == "UnauthorizedError"
        page = chromium.new_page(http_credentials={"username": "me", "password": "s3cret: pass"})
        sockets: list[str] = []
        page.on("websocket", lambda s: s.on("framereceived", lambda _: sockets.append(s.url)))
        page.goto(url + "/asset-groups")
        page.get_by_text("supervised", exact=True).first.wait_for()
        wait_for(lambda: page.wait_for_timeout(100) or sockets, root)
        page.close()
    for file in root.rglob("*"):
        assert not file.is_file() or b"s3cret" not in file.read_bytes(), file
