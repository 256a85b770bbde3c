"""Nothing in the studio is started or changed from a foreign page, by a GET, by a form, or where it is read-only."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from made_studio import Counted, Studio, project_folder
from starlette.routing import Mount, Route

from cai_assets.studio.app import studio

pytestmark = pytest.mark.fault("hostile requests against the studio")

SAVE, RUN = "/constitutions/harmlessness/save", "/versions/harmlessness-v1-00000000/run"


def changing() -> list[str]:
    """The address of every POST."""
    routes = [r for r in studio(Counted()).routes if isinstance(r, Route)]
    return [r.path.format(name="harmlessness", version="harmlessness-v1-00000000") for r in routes
            if r.methods and "POST" in r.methods]


@pytest.mark.parametrize("path", changing())
@pytest.mark.parametrize("headers", [
    {"origin": "http://evil.example"}, {"origin": "null"}, {"origin": "http://127.0.0.1:3001"},
    {"host": "evil.example"}, {"sec-fetch-site": "cross-site"},
    {"content-type": "application/x-www-form-urlencoded"}, {"content-type": "text/plain"},
    {"content-type": "multipart/form-data; boundary=x"},
])
def test_no_foreign_page_and_no_form_reaches_a_post(empty: Studio, path: str, headers: dict[str, str]) -> None:
    before = empty.files
    body = b'{"file": "", "seen": "", "scale": "smoke"}'
    answer = empty.client.post(f"/studio{path}", content=body, headers={"content-type": "application/json", **headers})
    assert answer.status_code in {403, 415}
    assert answer.text.startswith("cai ui: ")
    assert (empty.files, empty.runs.launched, empty.runs.added) == (before, [], [])


@pytest.mark.parametrize("path", changing())
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_no_get_changes_anything(empty: Studio, path: str, method: str) -> None:
    before = empty.files
    answer = empty.client.request(method, f"/studio{path}?scale=smoke&file=x&seen=y")
    assert answer.status_code in {200, 404, 405}  # 200: a page of the same address
    assert (empty.files, empty.runs.launched, empty.runs.added) == (before, [], [])


def test_read_only_looks_and_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = Studio(project_folder(tmp_path, monkeypatch), Counted(read_only=True))
    before = shown.files
    html = shown.get("/constitutions/harmlessness").text
    assert "Read-only" in html
    assert 'id="save"' not in html
    assert "readonly" in html
    file = (tmp_path / "constitutions" / "harmlessness.yaml").read_text()
    assert shown.post("/constitutions/harmlessness/check", {"file": file}).status_code == 200
    looks = {"/constitutions/harmlessness/check", "/constitutions/harmlessness/plan"}
    for path in set(changing()) - looks:
        refused = shown.post(path, {"file": file, "seen": "x"})
        assert refused.status_code == 403
        assert "--read-only" in refused.json()["error"]
    assert (shown.files, shown.runs.launched) == (before, [])


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b'{"unknown": 1}', b'{"file": 5, "seen": "x"}', b"\xff"])
def test_what_is_no_request_of_a_page_is_refused_in_one_line(empty: Studio, body: bytes) -> None:
    answer = empty.client.post(f"/studio{SAVE}", content=body, headers={"content-type": "application/json"})
    assert answer.status_code == 400
    assert len(answer.json()["error"].splitlines()) == 1


def test_every_page_allows_its_own_script_alone(empty: Studio) -> None:
    for path in ("/", "/constitutions/harmlessness", "/constitutions/nobody"):
        policies: list[Any] = empty.get(path).headers.get_list("content-security-policy")
        assert any("script-src 'self';" in p and "default-src 'none'" in p for p in policies)
        assert any("frame-ancestors 'none'" in p for p in policies)
        assert "http://" not in empty.get(path).text.replace("http://127.0.0.1", "")


def test_the_studio_has_no_address_that_only_a_mount_would_show() -> None:
    assert not [r for r in studio(Counted()).routes if isinstance(r, Mount)]
