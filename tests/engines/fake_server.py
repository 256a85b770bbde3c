"""An OpenAI-compatible server on 127.0.0.1 that answers, or fails, by rule."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Body = dict[str, Any]
Mode = str
MODEL = "fake"


def good(path: str, body: Body) -> Body:
    """A valid reply: echoes the prompt, or gives logprobs of A and B."""
    chat = path.endswith("/chat/completions")
    asked = body["messages"][-1]["content"] if chat else str(body["prompt"])
    choice: Body = {"index": 0, "finish_reason": "stop"}
    if chat:
        choice["message"] = {"role": "assistant", "content": f"echo {asked}"}
    else:
        choice["text"] = f"echo {asked}"
    if body.get("logprobs"):
        ids = body.get("return_tokens_as_token_ids")
        listed = {"token_id:65" if ids else " A": -0.5, "token_id:66" if ids else "B": -1.5}
        tops = [{"token": t, "logprob": p} for t, p in listed.items()]
        choice["logprobs"] = {"content": [{"top_logprobs": tops}]} if chat else {"top_logprobs": [listed]}
    return {"model": MODEL, "choices": [choice], "usage": {"prompt_tokens": 3, "completion_tokens": 2}}


def spoiled(mode: Mode, reply: Body) -> bytes:
    """The reply of status 200 that a mode turns a good one into."""
    choice = reply["choices"][0]
    if mode == "html":
        return b"<html><body>please log in</body></html>"
    if mode == "truncated":
        return json.dumps(reply).encode()[:-7]
    if mode == "empty_choices":
        reply["choices"] = []
    elif mode == "null_content":
        choice.update({"message": {"content": None}} if "message" in choice else {"text": None})
    elif mode == "no_finish":
        del choice["finish_reason"]
    elif mode == "null_finish":
        choice["finish_reason"] = None
    elif mode == "other_model":
        reply["model"] = "impostor"
    elif mode.startswith("scores") and "logprobs" in choice:
        return json.dumps(reply).replace("-0.5", mode.removeprefix("scores ")).encode()
    elif mode == "no_logprobs":
        choice.pop("logprobs", None)
    elif mode in ("length", "content_filter"):
        choice["finish_reason"] = mode
    return json.dumps(reply).encode()


class Listening(ThreadingHTTPServer):
    """Five connections may wait by default: of more at once, a busy machine resets some, which no test asked for."""

    request_queue_size = 256
    daemon_threads = True


class FakeServer:
    """``rule(body, n)`` names the mode of the n-th request (from 0); 'ok' answers."""

    def __init__(self, rule: Callable[[Body, int], Mode], port: int = 0) -> None:
        self.rule = rule
        self.seen: list[tuple[str, Body]] = []
        self.headers: list[dict[str, str]] = []
        self.lock = threading.Lock()
        self.released = threading.Event()
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                server.handle(self)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self.http = Listening(("127.0.0.1", port), Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.http.server_address[1]}/v1"

    @property
    def calls(self) -> int:
        return len(self.seen)

    def handle(self, h: BaseHTTPRequestHandler) -> None:
        body = json.loads(h.rfile.read(int(h.headers["content-length"])))
        with self.lock:
            n = len(self.seen)
            self.seen.append((h.path, body))
            self.headers.append(dict(h.headers))
        mode, _, argument = self.rule(body, n).partition(":")
        if mode == "reset":
            h.connection.close()
        elif mode == "hang":
            self.released.wait()
        elif mode == "drip":
            self._drip(h)
        elif mode == "redirect":
            self._send(h, int(argument[:3]), b"", {"location": argument[4:]})
        elif mode == "says":
            self._send(h, int(argument[:3]), argument[4:].encode(), {})
        elif mode == "endless":
            self._endless(h)
        elif mode.isdigit():
            text = json.dumps({"error": {"message": f"refused {h.headers.get('authorization')}"}}).encode()
            self._send(h, int(mode), text, {"retry-after": argument} if argument else {})
        else:
            self._send(h, 200, spoiled(mode, good(h.path, body)), {})

    def _drip(self, h: BaseHTTPRequestHandler) -> None:
        h.send_response(200)
        h.send_header("content-length", "1000")
        h.end_headers()
        while not self.released.is_set():
            try:
                h.wfile.write(b" ")
                h.wfile.flush()
            except OSError:
                return
            time.sleep(0.05)

    @staticmethod
    def _endless(h: BaseHTTPRequestHandler) -> None:
        h.send_response(200)
        h.end_headers()
        with suppress(OSError):
            while True:
                h.wfile.write(b" " * 65536)

    @staticmethod
    def _send(h: BaseHTTPRequestHandler, status: int, text: bytes, headers: dict[str, str]) -> None:
        h.send_response(status)
        for name, value in {"content-type": "application/json", "content-length": str(len(text)), **headers}.items():
            h.send_header(name, value)
        h.end_headers()
        h.wfile.write(text)


@contextmanager
def serving(rule: Callable[[Body, int], Mode] = lambda _, __: "ok", port: int = 0) -> Iterator[FakeServer]:
    server = FakeServer(rule, port)
    thread = threading.Thread(target=server.http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.released.set()
        server.http.shutdown()
        server.http.server_close()
        thread.join()
