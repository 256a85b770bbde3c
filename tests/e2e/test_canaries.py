"""A whole graph against a server that echoes what it was sent, with exports: no byte it leaves holds a credential."""

from __future__ import annotations

import json
import os
import sqlite3
import sys
from base64 import b64decode, b64encode
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Lock, Thread
from typing import Any
from urllib.parse import quote

import patience
import polars as pl
import pytest
from tiny_models import tiny_model

REPOSITORY = Path(__file__).parents[2]
NEEDLE = "zebracanary"  # in each of the four
KEY, USER, PASSWORD, TOKEN = (f"{kind}-{NEEDLE}-7" for kind in ("key", "user", "password", "token"))
CLI = f"""
import runpy, sys
sys.path[:0] = [{str(REPOSITORY / "tests" / "defs")!r}, {str(REPOSITORY / "tests")!r}]
from histories import copy_instead_of_training
from cai_assets.defs import launch
launch._run = copy_instead_of_training
from cai_assets.cli import app
app()
"""


class Echo(BaseHTTPRequestHandler):
    """Answers four of five calls, and echoes credentials in all that can be echoed in the others."""

    calls, lock = 0, Lock()

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        with Echo.lock:
            Echo.calls += 1
            n = Echo.calls
        kind, _, credential = self.headers["authorization"].partition(" ")
        sent = f"{kind} {credential} {self.path} {b64decode(credential).decode() if kind == 'Basic' else ''}"
        sent += f" {quote(sent)} {b64encode(sent.encode()).decode()}"
        choice: dict[str, Any] = {"finish_reason": "stop", "text": f"I would rather not. {n % 7}"}
        choice["message"] = {"content": choice["text"]}
        if body.get("logprobs"):
            listed = {"A": -0.3 - n % 3, "B": -1.5, "Yes": -2.5, "No": -3.0}
            choice["logprobs"] = {"top_logprobs": [listed], "content": [
                {"top_logprobs": [{"token": t, "logprob": p} for t, p in listed.items()]}]}
        reply: dict[str, Any] = {"model": body["model"], "choices": [choice]}
        odd = n // 5 % 9 if n % 5 == 0 else 9
        status = [400, 500, 429, 200, 200, 200, 307, 200, 422, 200][odd]
        match odd:
            case 0 | 1 | 2 | 8:
                reply = {"error": {"message": f"cannot serve {sent}"}}
            case 3:
                choice["text"] = choice["message"]["content"] = f"you sent {sent}"
            case 4:
                reply["model"] = sent
            case 5:
                choice["finish_reason"] = sent
            case 7:
                reply = {"choices": sent}
        data = json.dumps(reply).encode()
        self.send_response(status)
        self.send_header("content-length", str(len(data)))
        if status == 307:
            self.send_header("location", f"http://{quote(sent, safe='')}@127.0.0.1:9/?{quote(sent)}")
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def address() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Echo)
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://{USER}:{PASSWORD}@127.0.0.1:{server.server_address[1]}/v1?token={TOKEN}#{PASSWORD}"
    server.shutdown()
    server.server_close()


@pytest.mark.long
def test_no_byte_that_a_whole_graph_leaves_holds_a_credential(address: str, tmp_path: Path) -> None:
    served: dict[str, Any] = {"source": "echo", "base_urls": [address], "api_key_env": "ECHO_KEY"}
    by_key = {**served, "base_urls": [address.replace(f"{USER}:{PASSWORD}@", "")]}
    policy = {"source": str(tiny_model(tmp_path / "tiny")), "backend": "scripted"}
    models = {"generator": served, "labeller": by_key, "judge": by_key, "policy": policy}
    few = {"red_team": 12, "helpful": 4, "eval_red_team": 2, "eval_helpful": 2}
    (tmp_path / "settings.yaml").write_text(json.dumps({"models": models}))
    left, said = tmp_path / "left", list[str]()
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "NO_PROXY": "127.0.0.1", "ECHO_KEY": KEY,
                   "CAI_SETTINGS": str(tmp_path / "settings.yaml"), "CAI_DATA_ROOT": str(left / "data"),
                   "DAGSTER_HOME": str(left / "home"), "CAI_PROMPTS": json.dumps(few), "CAI_ACCEPT_LOSS": "1000",
                   "CAI_CONSTITUTIONS": str(REPOSITORY / "constitutions")}
    (left / "home").mkdir(parents=True)

    def cai(*words: str, tries: int = 1) -> str:
        for _ in range(tries):
            done = patience.run([sys.executable, "-c", CLI, *words], env=environment, cwd=left)
            said.append(done.stdout + done.stderr)
            if done.returncode == 0:
                return done.stdout
        raise AssertionError(said[-1])

    cai("demo", "--constitution", "customer-service", tries=3)  # an odd reply to a stage's first call ends the run
    version = next((left / "data" / "constitutions").glob("customer-service*.json")).stem
    cai("settings")
    cai("plan", version)
    cai("trace", f"rl_policy@{version}", "--json")
    cai("export", "model", f"rl_policy@{version}", "--out", str(left / "model"))
    cai("export", "dataset", version, "--out", str(left / "dataset"))
    cai("verify")
    shown = said[-6]  # by cai settings
    assert "http://***@127.0.0.1" in shown
    assert "?***" in shown
    assert Echo.calls > 100
    (left / "said.txt").write_text("\n".join(said))
    found = [str(path.relative_to(left)) for path in sorted(left.rglob("*")) if path.is_file() and _holds(path)]
    assert found == []


def _holds(path: Path) -> bool:
    data = path.read_bytes()
    if path.suffix == ".parquet":
        data += "\n".join(map(str, pl.read_parquet(path).rows())).encode()
    elif data.startswith(b"SQLite format 3"):
        with sqlite3.connect(path) as database:
            data += "\n".join(database.iterdump()).encode()
    return any(form in data for form in _forms())


def _forms() -> list[bytes]:
    """The needle as it is, and in Base64 whatever stands before and after it, in both alphabets."""
    coded = [b64encode(b"x" * n + NEEDLE.encode())[(0, 2, 3)[n]:-4] for n in range(3)]
    return [NEEDLE.encode(), quote(NEEDLE).encode(), NEEDLE.encode().hex().encode(), *coded]
